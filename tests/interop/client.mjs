// The official Socket.IO client, told what to do by one JSON line on standard input.
//
// Says what happens, one JSON line each, with `at` in seconds of the clock that Python's
// time.monotonic() reads. Ends when standard input does.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const say = (what, more = {}) =>
  console.log(JSON.stringify({ what, at: Number(process.hrtime.bigint()) / 1e9, ...more }));

function join(socket, token) {
  socket
    .timeout(5000)
    .emitWithAck("user-join", { auth: { token } })
    .then((user) => say("joined", { user }))
    .catch((error) => say("not joined", { error: error.message }));
}

function start({ url, token }) {
  const socket = io(url, {
    path: "/ws/socket.io",
    transports: ["websocket"],
    auth: { token },
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
  });
  socket.on("connect", () => {
    say("connected", { sid: socket.id, transport: socket.io.engine.transport.name });
    join(socket, token);
  });
  socket.on("disconnect", (reason) => say("disconnected", { reason }));
  socket.on("connect_error", (error) => say("refused", { error: error.message }));
  socket.on("events", (event) => say("event", { event }));
  return socket;
}

const lines = createInterface({ input: process.stdin });
let socket;
lines.on("line", (line) => {
  socket = start(JSON.parse(line));
});
lines.on("close", () => {
  socket?.close();
});
