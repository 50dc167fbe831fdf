//! Python's `websockets` on both sides.

use crate::common::{Mesh, Need, PATIENCE, Peer, eventually, have, run, script};

#[test]
fn messages_pings_and_the_closing_handshake_pass() {
    if !have(&[Need::Program("python3"), Need::Python("websockets.asyncio.client")]) {
        return;
    }
    let server = Peer::start(&mut script("websocket_server.py"));
    let proxy = Mesh::new().service("ws.test", &[server.addr]).start();
    let port = proxy.outbound().port().to_string();
    let mut client = script("websocket_client.py");
    client.args(["127.0.0.1", &port, "ws://ws.test/chat"]);
    let ran = run(&mut client, PATIENCE).ok();
    assert_eq!(ran.text(), "closed 4001 done here\n");
    eventually("the server saw the end", PATIENCE, || {
        let output = server.output();
        (output.contains("host ws.test") && output.contains("closed 4001 done here")).then_some(())
    });
}

#[test]
fn a_client_that_is_killed_is_seen_to_go() {
    if !have(&[Need::Program("python3"), Need::Python("websockets.asyncio.client")]) {
        return;
    }
    let server = Peer::start(&mut script("websocket_server.py"));
    let proxy = Mesh::new().service("ws.test", &[server.addr]).start();
    let port = proxy.outbound().port().to_string();
    let mut client = crate::common::program("python3");
    // Says hello, tells us, and then nothing for ever.
    let line = format!(
        "import asyncio\n\
         from websockets.asyncio.client import connect\n\
         async def main():\n  \
           c = await connect('ws://ws.test/', host='127.0.0.1', port={port})\n  \
           await c.send('hello'); await c.recv()\n  \
           print('127.0.0.1:{port}', flush=True)\n  \
           await asyncio.sleep(600)\n\
         asyncio.run(main())"
    );
    let client = Peer::start(client.args(["-c", &line]));
    drop(client);
    eventually("the server saw the end", PATIENCE, || {
        server.output().contains("closed 1006").then_some(())
    });
}
