//! A hop made of hyper.

use std::cell::RefCell;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;

use crate::messages::{request, response};
use crate::pipe::{Pipe, Tasks};

/// So many exchanges.
pub(crate) fn run(count: usize) {
    let (tasks, down, up) = (Tasks::default(), Pipe::default(), Pipe::default());
    tasks.spawn(serve(tasks.clone(), down.clone(), up.clone()));
    tasks.run();
    let (request, response) = (request(), response());
    for _ in 0..count {
        down.bring(request.as_bytes());
        tasks.run();
        let asked = up.written(|bytes| bytes.len());
        assert_eq!(asked, Some(request.len()), "it was forwarded");
        up.bring(response.as_bytes());
        tasks.run();
        let answered = down.written(|bytes| bytes.len());
        assert_eq!(answered, Some(response.len()), "it was answered");
    }
}

async fn serve(tasks: Tasks, down: Pipe, up: Pipe) {
    let (client, connection) =
        hyper::client::conn::http1::handshake::<_, Incoming>(up).await.expect("a client");
    tasks.spawn(async { connection.await.expect("it does not end") });
    // Requests come one after the other.
    let client = Rc::new(RefCell::new(Some(client)));
    let service = service_fn(move |request| forward(Rc::clone(&client), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.auto_date_header(false);
    server.serve_connection(down, service).await.expect("it does not end");
}

async fn forward(
    place: Rc<RefCell<Option<SendRequest<Incoming>>>>,
    request: http::Request<Incoming>,
) -> hyper::Result<http::Response<Incoming>> {
    let mut client = place.take().expect("it is back");
    client.ready().await?;
    let answer = client.send_request(request);
    place.replace(Some(client));
    answer.await
}
