//! A hop made of the `h2` crate.

use std::collections::BTreeMap;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use selvedge_core::time::Time;

use crate::pipe::{Pipe, Tasks};
use crate::record::Through;

/// One connection of a client, and one to an endpoint.
pub(crate) struct Hop {
    tasks: Tasks,
    pipes: [Pipe; 2],
    total: usize,
}

impl Hop {
    pub(crate) fn new() -> Hop {
        let (tasks, down, up) = (Tasks::default(), Pipe::default(), Pipe::default());
        tasks.spawn(serve(tasks.clone(), down.clone(), up.clone()));
        tasks.run();
        Hop { tasks, pipes: [down, up], total: 0 }
    }
}

impl Through for Hop {
    fn now(&self) -> Time {
        Time::ZERO
    }

    fn connections(&self) -> usize {
        2
    }

    fn read(&mut self, at: usize, bytes: &[u8]) {
        self.pipes[at].bring(bytes);
        self.tasks.run();
    }

    fn wrote(&mut self) -> BTreeMap<usize, Vec<u8>> {
        let mut wrote = BTreeMap::new();
        for (at, pipe) in self.pipes.iter().enumerate() {
            if let Some(bytes) = pipe.written(<[u8]>::to_vec) {
                self.total += bytes.len();
                wrote.insert(at, bytes);
            }
        }
        wrote
    }

    fn total(&self) -> usize {
        self.total
    }
}

async fn serve(tasks: Tasks, down: Pipe, up: Pipe) {
    let (client, connection) = h2::client::handshake(up).await.expect("a client");
    tasks.spawn(async { connection.await.expect("it does not end") });
    let mut server = h2::server::handshake(down).await.expect("a server");
    while let Some(request) = server.accept().await {
        let (request, respond) = request.expect("a request");
        tasks.spawn(forward(tasks.clone(), client.clone(), request, respond));
    }
}

async fn forward(
    tasks: Tasks,
    client: SendRequest<Bytes>,
    request: http::Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let mut client = client.ready().await.expect("it takes requests");
    let (parts, body) = request.into_parts();
    let request = http::Request::from_parts(parts, ());
    let (response, there) = client.send_request(request, false).expect("it takes this one");
    tasks.spawn(pass(body, there));
    let (parts, body) = response.await.expect("an answer").into_parts();
    let response = http::Response::from_parts(parts, ());
    let back = respond.send_response(response, false).expect("the client is there");
    pass(body, back).await;
}

/// A body and its trailers.
async fn pass(mut from: RecvStream, mut to: SendStream<Bytes>) {
    while let Some(data) = from.data().await {
        let data = data.expect("no reset");
        from.flow_control().release_capacity(data.len()).expect("it was received");
        let end = from.is_end_stream();
        to.send_data(data, end).expect("no reset");
        if end {
            return;
        }
    }
    match from.trailers().await.expect("no reset") {
        Some(trailers) => to.send_trailers(trailers).expect("no reset"),
        None => to.send_data(Bytes::new(), true).expect("no reset"),
    }
}
