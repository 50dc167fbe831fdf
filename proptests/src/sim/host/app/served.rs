//! A request as an app gets it, and what the app answers, in whichever version.

use std::time::Duration;

use super::health::{self, Asked};
use crate::choose::pick;
use crate::sim::fault::Fault;
use crate::sim::invariant::{Check, Invariant, Violation};
use crate::sim::link::Stamp;
use crate::sim::mesh;
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
    /// It is asked how it does.
    pub(super) asked: Option<Asked>,
    /// The number of its head.
    pub(super) head: u32,
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
        let asked = health::asked(head).filter(|_| request.is_none());
        let number = net.model.next_head();
        let served =
            Served { request, asked, head: number, got: 0, complete: false, answered: false };
        let Some(id) = request else { return Ok(served) };
        net.say(HostId::App(app), || format!("is asked {id}"));
        net.model.attempt(&mut net.checks, &net.mix, id, app, stamp)?;
        let sent = &net.model.requests[id as usize];
        net.coverage.ways[usize::from(sent.stream) * 2 + usize::from(stream)] += 1;
        if let Some(client) = head.get("l5d-client-id").filter(|_| !sent.wild) {
            let known = mesh::may_be_client(client, net.mix.has(Fault::CertifyOther));
            net.coverage.mesh[5] += 1;
            net.checks.that(Invariant::Identified, known, || {
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

/// 1xx that are said as soon as there is a head: mostly none.
pub(super) fn hints(net: &mut Net<'_>, id: u32, head: u32) -> Vec<Vec<u8>> {
    if !net.hits(Fault::AppHints) {
        return Vec::new();
    }
    let count = 1 + net.choose.below(2);
    (0..count).map(|_| interim(net, id, head)).collect()
}

/// A 1xx for a request, of which the app has this head.
pub(super) fn interim(net: &mut Net<'_>, id: u32, head: u32) -> Vec<u8> {
    net.model.hint(net.choose, id, head)
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
    if fails {
        net.model.blames[usize::from(app)].failures += 1;
    }
    let status = match fails {
        true => Some(pick(net.choose, &[503, 500, 429])),
        // Where endpoints are judged, those that are well do not seem otherwise.
        false if net.healed => net.mix.guarded.then_some(200),
        false => net.mix.guarded.then(|| pick(net.choose, &[200, 204, 404, 304])),
    };
    let wait = if fails && net.choose.one_in(4) { wait(net) } else { None };
    let answer = Answer {
        status,
        id: net.model.responses.len() as u32,
        to: &net.model.requests[id as usize].request,
        largest: net.mix.largest,
        tunnel: false,
        wait: wait.as_deref(),
    };
    response::response(net.choose, answer)
}

/// How long an app that fails does not want to be asked: in seconds, or until a date.
fn wait(net: &mut Net<'_>) -> Option<String> {
    let seconds = pick(net.choose, &[1, 0, 2, 100]);
    if net.choose.flip() {
        return Some(seconds.to_string());
    }
    let at = mesh::wall(net.now, seconds).as_millis() / 1000;
    let at = time::OffsetDateTime::from_unix_timestamp(at.cast_signed()).ok()?;
    let (day, month) = (at.weekday().to_string(), at.month().to_string());
    let (day, month, hms) = (&day[..3], &month[..3], at.time().as_hms());
    let (hour, minute, second) = hms;
    let (date, year) = (at.day(), at.year());
    Some(format!("{day}, {date:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT"))
}
