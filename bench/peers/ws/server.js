// node's `ws` as a broadcast server.
//
// usage: node server.js PORT
//
// POST /broadcast sends the body to every client of /ws.
'use strict';

const { createServer } = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

const server = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/broadcast') {
    response.writeHead(404).end();
    return;
  }
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const message = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false });
    }
    response.writeHead(202, { 'Content-Length': 0 }).end();
  });
});

server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (client) => client.on('error', () => {}));
});

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
