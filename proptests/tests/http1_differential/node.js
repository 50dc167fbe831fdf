// Reads HTTP/1 with the parser of Node.
//
// In: records of a byte (0 requests, 1 responses to GET, 2 to HEAD, 3 to CONNECT), the length (32
// bits, big end first) and so many bytes, after which the connection ends. Out: for each record a
// line of JSON, what was read of it, bytes in hexadecimal.
'use strict';

process.removeAllListeners('warning');
const { HTTPParser, allMethods } = process.binding('http_parser');
const MOST_BYTES = 1 << 20;

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');
const pairs = (raw) => {
  const fields = [];
  for (let at = 0; at < raw.length; at += 2) fields.push([hex(raw[at]), hex(raw[at + 1])]);
  return fields;
};

function read(kind, bytes) {
  const reading = { messages: [], error: null };
  let message = null;
  // What comes in more than one piece comes here, trailers too.
  let gathered = [];
  let gatheredTarget = '';
  const parser = new HTTPParser();
  parser.initialize(kind === 0 ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {}, MOST_BYTES, 0);
  parser[HTTPParser.kOnHeaders] = (raw, target) => {
    gathered = gathered.concat(raw);
    gatheredTarget += target;
  };
  parser[HTTPParser.kOnHeadersComplete] = (major, minor, raw, method, target, status) => {
    const fields = raw === undefined ? gathered : raw;
    const start = kind === 0
      ? [hex(allMethods[method]), hex(target === undefined ? gatheredTarget : target)]
      : [status];
    message = { start, fields: pairs(fields), body: [], trailers: [] };
    gathered = [];
    gatheredTarget = '';
    if (kind === 2) return 1;
    if (kind === 3 && status >= 200 && status < 300) return 2;
    return 0;
  };
  parser[HTTPParser.kOnBody] = (piece) => { message.body.push(Buffer.from(piece)); };
  parser[HTTPParser.kOnMessageComplete] = () => {
    message.trailers = pairs(gathered);
    message.body = Buffer.concat(message.body).toString('hex');
    gathered = [];
    gatheredTarget = '';
    const interim = kind !== 0 && message.start[0] < 200 && message.start[0] !== 101;
    if (!interim) reading.messages.push(message);
    message = null;
  };
  let result = parser.execute(bytes);
  if (result < bytes.length && message !== null) reading.error = 'stopped for an upgrade';
  if (!(result instanceof Error) && result === bytes.length) result = parser.finish();
  if (result instanceof Error) reading.error = `${result.code}: ${result.reason}`;
  return reading;
}

const input = require('fs').readFileSync(0);
const lines = [];
for (let at = 0; at < input.length;) {
  const length = input.readUInt32BE(at + 1);
  lines.push(JSON.stringify(read(input[at], input.subarray(at + 5, at + 5 + length))));
  at += 5 + length;
}
require('fs').writeFileSync(1, lines.join('\n') + '\n');
