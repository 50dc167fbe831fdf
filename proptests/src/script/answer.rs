//! What clients make of what they get.

use super::client::Current;
use super::net::{Check, Reset};
use super::world::{Owner, Sent, World};
use crate::traffic::arrival::{Way, check_response_head, check_trailers};
use crate::traffic::content::{is_content, number, response_key};
use crate::traffic::request::Body;
use crate::traffic::wire::{Field, Framing, Head, Part, Reader, show};

impl World<'_> {
    pub(super) fn client_got(&mut self, at: usize, bytes: &[u8]) -> Check {
        if self.clients[at].tunnelled {
            return self.end_got(Owner::Client(at), bytes);
        }
        self.clients[at].reader.feed(bytes);
        loop {
            let client = &mut self.clients[at];
            let between = client.reader.is_between();
            if between && client.wild_at.is_some_and(|wild_at| client.answered >= wild_at) {
                let rest = client.reader.take_rest();
                client.raw.extend(rest);
                return Ok(());
            }
            let asked = client.requests.get(client.answered).copied();
            let method = asked.map_or("GET", |id| self.requests[id as usize].request.method);
            let mut framing = |head: &Head| match (head.status(), method) {
                (100..=199 | 204 | 304, _) | (_, "HEAD") => Ok(Framing::Nothing),
                (200..=299, "CONNECT") => Ok(Framing::Nothing),
                _ => head.framing(),
            };
            match client.reader.next(&mut framing)? {
                None => return Ok(()),
                Some(Part::Head(head)) => self.client_head(at, asked, &head)?,
                Some(Part::Data(data)) => self.client_data(at, &data)?,
                Some(Part::End(trailers)) => self.client_end(at, &trailers, true)?,
            }
            if self.clients[at].tunnelled {
                let rest = self.clients[at].reader.take_rest();
                return self.end_got(Owner::Client(at), &rest);
            }
        }
    }

    fn client_head(&mut self, at: usize, asked: Option<u32>, head: &Head) -> Check {
        let client = &mut self.clients[at];
        let Some(id) = asked else {
            return Err(format!("an answer to nothing: {}", show(&head.line)));
        };
        let sent = &mut self.requests[id as usize];
        if client.sent <= sent.start {
            return Err(format!("an answer before request {id}: {}", show(&head.line)));
        }
        if client.closing {
            return Err(format!("an answer after the last: {}", show(&head.line)));
        }
        if head.parts()[0] != b"HTTP/1.1" {
            return Err(format!("status line {}", show(&head.line)));
        }
        // It need not wait any more.
        client.hold = None;
        let status = head.status();
        if (100..=199).contains(&status) && status != 101 {
            client.current = Current::Interim;
            return self.check_interim(id, head);
        }
        sent.answered = true;
        if status == 101 && client.sent < sent.start + sent.request.bytes.len() {
            return Err(format!("request {id} has become a tunnel before it was over"));
        }
        let tunnel = status == 101 || sent.request.method == "CONNECT" && status < 300;
        let last = client.answered + 1 == client.requests.len();
        if last && !tunnel && client.end.take().is_some() {
            // What it said too early is no request.
            client.wild_at.get_or_insert(client.answered + 1);
        }
        let rid = head.get("X-Rid").and_then(number);
        if let Some(rid) = rid.filter(|&rid| (rid as usize) < self.responses.len()) {
            client.current = Current::App(rid, 0);
            self.note_closing(at, id, head)?;
            return self.check_answer(at, id, rid, head);
        }
        if let Some(error) = head.get("l5d-proxy-error") {
            client.current = Current::Proxy;
            let error = String::from_utf8_lossy(error).into_owned();
            self.note_closing(at, id, head)?;
            return self.check_refusal(id, status, &error);
        }
        // An app may have answered before it saw the request.
        let targets = self.mesh.targets(client.place, sent.request.authority.as_deref());
        let tainted = self.apps.iter().any(|app| app.tainted && targets.contains(&app.addr));
        let connected = sent.request.method == "CONNECT" && status == 200;
        if connected && head.fields.is_empty() && !tainted {
            if client.place.original_dst.is_some() {
                return Err("the proxy answers a CONNECT that is not for it".to_owned());
            }
            self.open_client_tunnel(at);
            return Ok(());
        }
        let wild = sent.wild || tainted;
        self.be_wild(at, status, id);
        if wild {
            return self.note_closing(at, id, head);
        }
        Err(format!("an answer from nowhere to request {id}: {}", show(&head.line)))
    }

    /// An app said something that it does not mean.
    fn be_wild(&mut self, at: usize, status: u16, id: u32) {
        let connect = self.requests[id as usize].request.method == "CONNECT";
        let client = &mut self.clients[at];
        client.current = Current::Wild;
        if status == 101 || (connect && status < 300) {
            // A tunnel, which leads to nothing in particular.
            client.wild_at = Some(client.answered);
        }
    }

    fn open_client_tunnel(&mut self, at: usize) {
        self.clients[at].tunnelled = true;
        if self.clients[at].end.is_none() {
            let mut end = self.open_end(Owner::Client(at), b"");
            // It may have said goodbye before.
            end.finished = self.clients[at].finishing;
            self.clients[at].end = Some(end);
        }
    }

    fn check_interim(&mut self, id: u32, head: &Head) -> Check {
        let sent = &mut self.requests[id as usize];
        self.outcome.interims += 1;
        if sent.attempts.iter().any(|&app| self.apps[app].tainted) {
            return Ok(());
        }
        if head.get("X-Id").and_then(number) != Some(id) || sent.interims == 0 {
            return Err(format!("a 1xx of another request than {id}: {}", show(&head.line)));
        }
        sent.interims -= 1;
        if sent.request.http10 {
            return Err("a 1xx to an HTTP/1.0 client".to_owned());
        }
        Ok(())
    }

    /// What the answer says about the connection.
    fn note_closing(&mut self, at: usize, id: u32, head: &Head) -> Check {
        let request = &self.requests[id as usize].request;
        let (http10, tunnel) = (request.http10, request.upgrade || request.method == "CONNECT");
        let client = &mut self.clients[at];
        match (head.get("connection"), head.status()) {
            (Some(b"close"), _) => (client.closing, client.told) = (true, true),
            (Some(b"upgrade"), 101) => {}
            (Some(b"keep-alive"), _) if http10 => {}
            (None, _) if !http10 => {}
            (other, _) => {
                return Err(format!("the client is told {:?}", other.map(show)));
            }
        }
        if !request.keep_alive && !tunnel && !client.told {
            return Err("the client asked for the end of its connection, and keeps it".to_owned());
        }
        Ok(())
    }

    /// The answer of an app: to this request, unchanged.
    fn check_answer(&mut self, at: usize, id: u32, rid: u32, head: &Head) -> Check {
        let told = &mut self.responses[rid as usize];
        if told.wild {
            self.be_wild(at, head.status(), id);
            return Ok(());
        }
        let response = &told.response;
        if response.request != id {
            return Err(format!("request {id} gets the answer to {}", response.request));
        }
        if std::mem::replace(&mut told.seen, true) {
            return Err(format!("request {id} gets the same answer twice"));
        }
        let request = &self.requests[id as usize].request;
        check_response_head(request, response, Way::http1(1), head)?;
        if head.framing()? == Framing::UntilClose
            && response.body != Body::Nothing
            && !self.clients[at].closing
        {
            return Err("a body that ends with the connection, which does not end".to_owned());
        }
        if response.status == 101 || (request.method == "CONNECT" && response.status == 200) {
            self.open_client_tunnel(at);
            return Ok(());
        }
        self.outcome.answers += 1;
        Ok(())
    }

    /// The proxy itself answers.
    fn check_refusal(&mut self, id: u32, status: u16, error: &str) -> Check {
        self.outcome.refusals += 1;
        let sent = &self.requests[id as usize];
        let unserved = self.is_unserved(sent);
        // `408` and the like are for what is slow or too much, never for what is malformed.
        let honest = matches!(status, 200 | 404 | 408 | 502 | 503 | 504 | 508);
        if sent.wild || (honest && (self.faults || unserved)) {
            return Ok(());
        }
        Err(format!("request {id} is refused: {status} {error}"))
    }

    /// Is there nowhere that a request could go?
    fn is_unserved(&self, sent: &Sent) -> bool {
        let authority = sent.request.authority.as_deref();
        let place = self.place_of(sent.client);
        let to_us = sent.request.method == "CONNECT" && place.original_dst.is_none();
        let known = authority.is_some_and(|authority| self.mesh.is_known(authority));
        let outbound = place.listener == 0;
        (to_us && !(known && outbound))
            || (!to_us && self.mesh.targets(place, authority).is_empty())
    }

    fn client_data(&mut self, at: usize, data: &[u8]) -> Check {
        match &mut self.clients[at].current {
            Current::App(rid, got) => {
                let response = &self.responses[*rid as usize].response;
                if *got + data.len() > response.body.len()
                    || !is_content(response_key(*rid), *got, data)
                {
                    return Err(format!("body of response {rid} differs after {got} bytes"));
                }
                *got += data.len();
                Ok(())
            }
            Current::Wild => Ok(()),
            other => Err(format!("{} in {other:?}", show(data))),
        }
    }

    /// A message is over; `framed`: it said so itself.
    fn client_end(&mut self, at: usize, trailers: &[Field], framed: bool) -> Check {
        let client = &mut self.clients[at];
        match std::mem::take(&mut client.current) {
            Current::Interim => return Ok(()),
            Current::App(rid, got) => {
                let response = &self.responses[rid as usize].response;
                if response.truncated || got != response.body.len() {
                    let len = response.body.len();
                    return Err(format!(
                        "response {rid} seems complete after {got} of {len} bytes"
                    ));
                }
                if framed {
                    check_trailers(&response.body.trailers(rid), Way::http1(1), trailers)?;
                }
            }
            Current::None | Current::Proxy | Current::Wild => {}
        }
        client.answered += 1;
        Ok(())
    }

    /// The proxy sends no more.
    pub(super) fn client_fin(&mut self, at: usize) -> Check {
        let client = &mut self.clients[at];
        if client.tunnelled {
            return self.end_fin(Owner::Client(at));
        }
        client.closing = true;
        if client.reader.is_until_close() {
            client.reader = Reader::default();
            return self.client_end(at, &[], false);
        }
        if client.reader.is_between() && !client.reader.rest().is_empty() {
            return Err(format!("the end within a head: {}", show(client.reader.rest())));
        }
        Ok(())
    }

    pub(super) fn client_over(&mut self, at: usize, reset: Reset) -> Check {
        if reset.is_clean() {
            self.client_fin(at)?;
        } else if !self.faults {
            return Err("a reset where nothing went wrong".to_owned());
        }
        let client = &mut self.clients[at];
        client.conn = None;
        client.closing = true;
        // Whatever it was, it was not for somebody else.
        let raw = std::mem::take(&mut client.raw);
        for (place, _) in raw.windows(7).enumerate().filter(|(_, window)| window == b"X-Rid: ") {
            let rid = raw.get(place + 7..place + 15).and_then(number);
            let told = rid.and_then(|rid| self.responses.get(rid as usize));
            if let Some(told) = told.filter(|told| !told.wild) {
                let owner = self.requests[told.response.request as usize].client;
                if owner != at {
                    return Err(format!("an answer that is for client {owner}"));
                }
            }
        }
        Ok(())
    }
}
