"""The scripts over one document's keys, which share a slot. Each is one atomic step.

Replies count on replicas being prefixes of their primary: a script's writes arrive together and in
order, so `base` or an origin's number are there only when everything before them is.
"""

from __future__ import annotations

# KEYS of all: updates (list), meta (hash), users (zset).
# meta: epoch, size (bytes), base (database version whose content the list holds),
#       o:ORIGIN (number of the last update of one worker).

# ARGV[1] is the epoch: content of an earlier one was replaced and goes; a later one refuses us.
_EPOCH = """
local epoch = tonumber(ARGV[1])
local have = tonumber(redis.call('HGET', KEYS[2], 'epoch') or '-1')
if have > epoch then return {-2} end
if have < epoch then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
"""
_NOW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
"""

# ARGV: epoch, lifetime, lease, member. Returns {base}; {-2} for a past epoch.
JOIN = (
    _EPOCH
    + _NOW
    + """
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[3], math.ceil(2 * tonumber(ARGV[3])))
return {tonumber(redis.call('HGET', KEYS[2], 'base') or '-1')}
"""
)

# ARGV: epoch, lifetime, origin, most bytes, only when empty, base or -1, then number and update of
# each. A number that the server has is not appended again, nor number 0, the database's content,
# when it has that base. After the first that is refused nothing is stored: a later number would
# tell that the refused one is there when the call is sent again.
# Returns {entries, answer of each}: 1 stored, 2 too large, 3 not empty, 4 not tried, as one before
# it was refused; {-2} for a past epoch.
APPEND = (
    _EPOCH
    + """
local origin = 'o:' .. ARGV[3]
local size = tonumber(redis.call('HGET', KEYS[2], 'size') or '0')
local last = tonumber(redis.call('HGET', KEYS[2], origin) or '0')
local base = tonumber(redis.call('HGET', KEYS[2], 'base') or '-1')
local answers, refused = {0}, false
for i = 7, #ARGV, 2 do
  local number, update = tonumber(ARGV[i]), ARGV[i + 1]
  local answer = 1
  if number > last or (number == 0 and tonumber(ARGV[6]) > base) then
    if ARGV[5] == '1' and redis.call('LLEN', KEYS[1]) > 0 then
      answer = 3
    elseif size + #update > tonumber(ARGV[4]) then
      answer = 2
    elseif refused then
      answer = 4
    else
      redis.call('RPUSH', KEYS[1], update)
      size = size + #update
      if number > 0 then last = number end
    end
  end
  refused = refused or answer ~= 1
  answers[#answers + 1] = answer
end
redis.call('HSET', KEYS[2], 'size', size, origin, last)
if tonumber(ARGV[6]) > base then redis.call('HSET', KEYS[2], 'base', ARGV[6]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
answers[1] = redis.call('LLEN', KEYS[1])
return answers
"""
)

# ARGV: how many entries, their digest, the snapshot. The digest is of exactly what the snapshot
# replaces: what was appended meanwhile stays, and after a failover nothing is replaced unseen.
# Returns whether the snapshot is in their place, also when an answer was lost and it was before.
COMPACT = """
local count = tonumber(ARGV[1])
local old = redis.call('LRANGE', KEYS[1], 0, count - 1)
local text = table.concat(old)
if #old < count or redis.sha1hex(text) ~= ARGV[2] then
  return old[1] == ARGV[3] and 1 or 0
end
redis.call('LTRIM', KEYS[1], count, -1)
redis.call('LPUSH', KEYS[1], ARGV[3])
redis.call('HINCRBY', KEYS[2], 'size', #ARGV[3] - #text)
return 1
"""

# ARGV: lifetime, lease, members. Returns {members that have expired, those of ours that are back or
# new}. The expired stay until BURY, when all were told of them: this answer may be lost. A lease
# that ends later than one can is of a clock that was ahead: it is made an ordinary one.
RENEW = (
    _NOW
    + """
local ends = now + tonumber(ARGV[2])
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ends, '+inf')) do
  redis.call('ZADD', KEYS[3], ends, ahead)
end
local new = {}
for i = 3, #ARGV do
  if tonumber(redis.call('ZSCORE', KEYS[3], ARGV[i]) or '0') <= now then
    new[#new + 1] = ARGV[i]
  end
  redis.call('ZADD', KEYS[3], ends, ARGV[i])
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[3], math.ceil(2 * tonumber(ARGV[2])))
return {gone, new}
"""
)

# ARGV: members. Removes those whose lease is still over, and returns how many.
BURY = (
    _NOW
    + """
local buried = 0
for _, member in ipairs(ARGV) do
  local ends = redis.call('ZSCORE', KEYS[3], member)
  if ends and tonumber(ends) <= now then
    buried = buried + redis.call('ZREM', KEYS[3], member)
  end
end
return buried
"""
)

# Returns the members whose lease has not expired.
USERS = (
    _NOW
    + """
return redis.call('ZRANGEBYSCORE', KEYS[3], now, '+inf')
"""
)

# ARGV: epoch, expected base, new base, how many entries hold it, their digest. Only when nothing of
# them was lost or replaced meanwhile: a replica that took over may lack the last but have the base.
SET_BASE = """
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'base') or '-1') ~= ARGV[2] then return 0 end
local count = tonumber(ARGV[4])
local held = count > 0 and redis.call('LRANGE', KEYS[1], 0, count - 1) or {}
if #held < count or redis.sha1hex(table.concat(held)) ~= ARGV[5] then return 0 end
redis.call('HSET', KEYS[2], 'base', ARGV[3])
return 1
"""

# ARGV: how many entries, their digest. Removes a document that nobody edits and that is saved.
REMOVE = (
    _NOW
    + """
if redis.call('ZCOUNT', KEYS[3], now, '+inf') > 0 then return 0 end
local all = redis.call('LRANGE', KEYS[1], 0, -1)
if #all ~= tonumber(ARGV[1]) or redis.sha1hex(table.concat(all)) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
"""
)

# KEYS: the unsaved documents (zset). ARGV: document. Notes that it was edited now.
MARK = (
    _NOW
    + """
return redis.call('ZADD', KEYS[1], now, ARGV[1])
"""
)

# ARGV: document, mark. Only when it was not edited since.
UNMARK = """
local found = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not found or tonumber(found) ~= tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
"""

# ARGV: age, most. Returns documents edited longer ago; nobody else gets them for as long again.
# Those of a clock that was ahead are returned, too: nobody knows how old they are.
ADOPT = (
    _NOW
    + """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, ARGV[2])
if #found == 0 then
  found = redis.call(
    'ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])
end
for _, document in ipairs(found) do redis.call('ZADD', KEYS[1], now, document) end
return found
"""
)
