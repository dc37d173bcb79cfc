"""The scripts of the session pool: each changes record and indexes at once.

Scores are seconds of the server's clock, so hosts' clocks do not matter. All keys share a slot.
"""

from __future__ import annotations

from runtime.realtime.leader import FENCED

# KEYS hash, seen, users, the user's room, further indexes; ARGV sid, record, user, ttl
PUT = """
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[3])
for i = 4, #KEYS do redis.call('ZADD', KEYS[i], now, ARGV[1]) end
for i = 3, #KEYS do redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - ARGV[4]) end
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
return 1
"""

_DROP = """
redis.call('HDEL', KEYS[1], sid)
redis.call('ZREM', KEYS[2], sid)
for i = 4, last do redis.call('ZREM', KEYS[i], sid) end
if redis.call('ZCARD', KEYS[4]) == 0 then redis.call('ZREM', KEYS[3], user) end
return 1
"""

# KEYS hash, seen, users, the user's room, further indexes; ARGV sid, user
DROP = "local sid, user, last = ARGV[1], ARGV[2], #KEYS\n" + _DROP

# KEYS as DROP, then the instances and the fence; ARGV fence, sid, user, instance, timeout, lease.
# The answer: 1 removed, 0 alive after all, -1 a newer leader works.
REAP = (
    FENCED
    + """
local sid, user, last = ARGV[2], ARGV[3], #KEYS - 2
local now = tonumber(redis.call('TIME')[1])
local seen = tonumber(redis.call('ZSCORE', KEYS[2], sid) or '0')
local lease = tonumber(redis.call('ZSCORE', KEYS[#KEYS - 1], ARGV[4]) or '0')
if now - seen <= tonumber(ARGV[5]) and now - lease <= tonumber(ARGV[6]) then return 0 end
"""
    + _DROP
)

# KEYS instances, fence; ARGV fence, instance, lease. The answer: 1 buried, 0 it is back, -1 a newer
# leader works. In one step: a worker that renews its lease meanwhile must not be forgotten.
BURY = (
    FENCED
    + """
local seen = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or '0')
if tonumber(redis.call('TIME')[1]) - seen <= tonumber(ARGV[3]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[2])
return 1
"""
)

# KEYS seen, instances; ARGV timeout, lease, at most. The answer: the server's second, silent sids,
# dead instances. What a clock that was ahead wrote counts as seen now: nobody would be silent until
# the clock is there again.
SILENT = """
local now = tonumber(redis.call('TIME')[1])
local function before(key, age)
  local ahead = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'LIMIT', 0, ARGV[3])
  for _, member in ipairs(ahead) do redis.call('ZADD', key, now, member) end
  return redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. (now - age), 'LIMIT', 0, ARGV[3])
end
return {now, before(KEYS[1], tonumber(ARGV[1])), before(KEYS[2], tonumber(ARGV[2]))}
"""

# KEYS seen; ARGV sids. Records without a score count as seen now, and are reaped if nobody renews.
ADOPT = """
local now = redis.call('TIME')[1]
local added = 0
for i = 1, #ARGV do added = added + redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) end
return added
"""

# KEYS a sorted set; ARGV member, ttl. The answer: the server's second.
TOUCH = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return now
"""

# KEYS index, hash; ARGV timeout, at most. The answer: sid, record, …, the most recent first.
MEMBERS = """
local now = redis.call('TIME')[1]
local sids = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
local found = {}
for _, sid in ipairs(sids) do
  local record = redis.call('HGET', KEYS[2], sid)
  if record then
    found[#found + 1] = sid
    found[#found + 1] = record
  end
end
return found
"""

# KEYS a sorted set; ARGV timeout
COUNT = """
return redis.call('ZCOUNT', KEYS[1], redis.call('TIME')[1] - ARGV[1], '+inf')
"""
