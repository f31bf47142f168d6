// An HTTP/2 server of Node's: node node_peer.js <leaf.pem> prints its port. What it does is said by the path's number.
const http2 = require("node:http2");
const fs = require("node:fs");

const pem = fs.readFileSync(process.argv[2]);
const server = http2.createSecureServer({ key: pem, cert: pem, settings: { maxConcurrentStreams: 100 } });
const { NGHTTP2_REFUSED_STREAM, NGHTTP2_INTERNAL_ERROR } = http2.constants;
let seen = 0;

server.on("stream", (stream, headers) => {
  const number = Number(headers[":path"].split("/").pop());
  const mode = headers[":path"].split("/")[1];
  const chunks = [];
  stream.on("error", () => {});
  stream.on("data", (chunk) => chunks.push(chunk));
  stream.on("end", () => {
    seen += 1;
    const body = Buffer.concat(chunks);
    if (mode === "mixed" && number % 10 === 3) return stream.close(NGHTTP2_REFUSED_STREAM);
    if (mode === "mixed" && number % 10 === 4) return stream.close(NGHTTP2_INTERNAL_ERROR);
    if (mode === "mixed" && number % 10 === 5) {
      stream.additionalHeaders({ ":status": 103, link: "</x>" });
      stream.respond({ ":status": 200, n: number }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ checksum: "1" }));
      return stream.end(body);
    }
    if (mode === "mixed" && number % 10 === 6) {
      stream.respond({ ":status": 404, "content-type": "application/json" });
      return stream.end(Buffer.alloc(5000, "e"));
    }
    stream.respond({ ":status": 200, n: number });
    stream.end(body);
    if (mode === "goaway" && seen % 500 === 0) stream.session.close();
  });
});
server.on("sessionError", () => {});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
