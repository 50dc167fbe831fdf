//! A request as an app gets it, and what the app answers, in whichever version.

use std::time::Duration;

use crate::choose::pick;
use crate::sim::invariant::{Check, Invariant, Violation};
use crate::sim::link::Stamp;
use crate::sim::mesh;
use crate::sim::mix::Fault;
use crate::sim::net::{HostId, Net};
use crate::traffic::arrival::{check_request_head, check_trailers};
use crate::traffic::content::{is_content, number, request_key};
use crate::traffic::response::{self, Answer, Response};
use crate::traffic::wire::{Field, Head, show};

/// The request that is being read or answered.
#[derive(Debug)]
pub(super) struct Served {
    /// `None`: it is nobody's.
    pub(super) request: Option<u32>,
    /// How much of its body has come.
    got: usize,
    pub(super) complete: bool,
    /// An answer is sent, or on its way out.
    pub(super) answered: bool,
}

impl Served {
    /// A head came that was written at `stamp`; `stream`: in HTTP/2.
    pub(super) fn head(
        net: &mut Net<'_>,
        app: u16,
        head: &Head,
        stamp: Stamp,
        stream: bool,
    ) -> Result<Self, Box<Violation>> {
        let request = id_of(net, head);
        let served = Served { request, got: 0, complete: false, answered: false };
        let Some(id) = request else { return Ok(served) };
        net.say(HostId::App(app), || format!("is asked {id}"));
        net.model.attempt(&mut net.checks, &net.mix, id, app, stamp)?;
        let sent = &net.model.requests[id as usize];
        net.coverage.ways[usize::from(sent.stream) * 2 + usize::from(stream)] += 1;
        if let Some(client) = head.get("l5d-client-id").filter(|_| !sent.wild) {
            let known = mesh::may_be_client(client, net.mix.has(Fault::CertifyOther));
            net.coverage.mesh[5] += 1;
            net.checks.that(Invariant::Bodies, known, || {
                format!("request {id} is said to come from {}", show(client))
            })?;
        }
        let sent = &net.model.requests[id as usize];
        if !sent.wild {
            let way = net.model.way(id, stream);
            net.checks.result(Invariant::Bodies, check_request_head(&sent.request, way, head))?;
        }
        Ok(served)
    }

    pub(super) fn data(&mut self, net: &mut Net<'_>, data: &[u8]) -> Check {
        let from = self.got;
        self.got += data.len();
        let Some(id) = self.request else { return Ok(()) };
        let sent = &net.model.requests[id as usize];
        if sent.wild {
            return Ok(());
        }
        net.coverage.bytes += data.len() as u64;
        let good = self.got <= sent.request.body.len() && is_content(request_key(id), from, data);
        net.checks.that(Invariant::Bodies, good, || {
            format!("the body of request {id} differs after {from} bytes")
        })
    }

    pub(super) fn end(&mut self, net: &mut Net<'_>, trailers: &[Field], stream: bool) -> Check {
        self.complete = true;
        let got = self.got;
        let Some(id) = self.request.filter(|&id| !net.model.requests[id as usize].wild) else {
            return Ok(());
        };
        let body = &net.model.requests[id as usize].request.body;
        let len = body.len();
        net.checks.that(Invariant::Bodies, got == len, || {
            format!("request {id} seems complete after {got} of {len} bytes")
        })?;
        let sent = body.trailers(id);
        let way = net.model.way(id, stream);
        net.checks.result(Invariant::Bodies, check_trailers(&sent, way, trailers))
    }
}

/// The request that a head says it is of.
pub(super) fn id_of(net: &Net<'_>, head: &Head) -> Option<u32> {
    let id = head.get("X-Id").and_then(number);
    id.filter(|&id| (id as usize) < net.model.requests.len())
}

/// A 1xx for a request.
pub(super) fn interim(net: &mut Net<'_>, id: u32) -> Vec<u8> {
    let sent = &mut net.model.requests[id as usize];
    sent.interims += 1;
    sent.hinted = true;
    response::interim(net.choose, &sent.request)
}

/// How long an app that is dying thinks before it answers.
pub(super) fn thinks(net: &Net<'_>, app: u16) -> Option<Duration> {
    net.model.failing[usize::from(app)].takes(net.now).filter(|_| !net.healed)
}

/// An answer of `app` to a request, which is not told yet.
pub(super) fn answer(net: &mut Net<'_>, app: u16, id: u32) -> Response {
    let failing = net.model.failing[usize::from(app)];
    let fails = !net.healed && failing.strikes(net.choose, net.now);
    net.model.requests[id as usize].serving = None;
    let status = fails.then(|| pick(net.choose, &[503, 500, 429]));
    let answer = Answer {
        status,
        id: net.model.responses.len() as u32,
        to: &net.model.requests[id as usize].request,
        largest: net.mix.largest,
        tunnel: false,
    };
    response::response(net.choose, answer)
}
