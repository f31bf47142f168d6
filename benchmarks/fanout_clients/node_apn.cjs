// @parse/node-apn, as a client of the benchmark: takes a job as JSON, prints its measurement as JSON.
"use strict";
const fs = require("fs");
const apn = require("@parse/node-apn");

const job = JSON.parse(process.argv[2]);
const { target } = job;
const address = new URL(target.apns_url);
const provider = new apn.Provider({
  token: { key: target.apns_key, keyId: target.key_id, teamId: target.team_id },
  address: address.hostname,
  port: Number(address.port),
  ca: [target.ca],
  production: true,
});

const note = new apn.Notification();
note.topic = target.topic;
note.pushType = "alert";
note.priority = 10;
note.expiry = Math.floor(Date.now() / 1000) + job.ttl_s;
note.collapseId = job.collapse_key;
note.rawPayload = job.payload;

// One call takes as many recipients as may be in flight.
async function send(count) {
  let sent = 0;
  for (let start = 0; start < count; start += job.in_flight) {
    const tokens = [];
    for (let n = start; n < Math.min(start + job.in_flight, count); n++) tokens.push(n.toString(16).padStart(64, "0"));
    sent += (await provider.send(note, tokens)).sent.length;
  }
  return sent;
}

function kib(field) {
  return Number(fs.readFileSync("/proc/self/status", "utf8").match(new RegExp(`^${field}:\\s+(\\d+)`, "m"))[1]);
}

async function main() {
  await send(1); // APNs allows one stream until it has seen a good token
  await send(job.warm_up);
  try {
    fs.writeFileSync("/proc/self/clear_refs", "5");
  } catch (error) {
    if (error.code !== "EACCES" && error.code !== "EPERM" && error.code !== "EROFS") throw error;
  }
  const resident = kib("VmRSS");
  const began = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  const sent = await send(job.count);
  const used = process.cpuUsage(cpu);
  console.log(
    JSON.stringify({
      requests: job.count,
      failed: job.count - sent,
      seconds: Number(process.hrtime.bigint() - began) / 1e9,
      cpu_s: (used.user + used.system) / 1e6,
      resident_bytes: kib("VmHWM") * 1024,
      grown_bytes: Math.max(0, kib("VmHWM") - resident) * 1024,
    }),
  );
  await provider.shutdown();
  process.exit(0);
}

main();
