//! The answer to one request, in whichever version it comes.

use selvedge_core::error::Reason;

use crate::sim::excuses::may_refuse;
use crate::sim::invariant::{Check, Invariant, Violation, violated};
use crate::sim::model::Ended;
use crate::sim::net::Net;
use crate::sim::policy::RouteModel;
use crate::traffic::arrival::{check_response_head, check_trailers};
use crate::traffic::content::{is_content, number, response_key};
use crate::traffic::wire::{Field, Head, show};

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    #[default]
    None,
    /// A 1xx.
    Interim,
    /// It is an app's, with so many bytes of its body so far.
    App(u32, usize),
    /// The proxy's own.
    Proxy,
    /// Of an app that does not know what it says.
    Wild,
}

impl Answer {
    /// A head came, of an answer to request `id`; `stream`: in HTTP/2.
    pub(super) fn head(&mut self, net: &mut Net<'_>, id: u32, head: &Head, stream: bool) -> Check {
        if (100..=199).contains(&head.status()) {
            *self = Answer::Interim;
            return net.model.inform(&mut net.checks, id, head);
        }
        let rid = head.get("X-Rid").and_then(number);
        if let Some(rid) = rid.filter(|&rid| (rid as usize) < net.model.responses.len()) {
            *self = Answer::App(rid, 0);
            if net.model.responses[rid as usize].wild {
                *self = Answer::Wild;
                return Ok(());
            }
            return check_answer(net, id, rid, head, stream);
        }
        if let Some(error) = head.get("l5d-proxy-error") {
            *self = Answer::Proxy;
            return check_refusal(net, id, head.status(), error);
        }
        let sent = &net.model.requests[id as usize];
        if let Some(route) = sent.route.map(|index| &net.model.routes[index])
            && let Some(good) = route.answers(&sent.request, head.status(), None)
            && !sent.wild
            && let Some(to) = head.get("location")
        {
            *self = Answer::Proxy;
            let known = RouteModel::location(&sent.request);
            let good = good && known.is_none_or(|known| known.as_bytes() == to);
            return net.checks.that(Invariant::Routed, good, || {
                format!("request {id} is redirected: {} {}", head.status(), show(to))
            });
        }
        let excused = sent.wild || sent.apps & net.model.tainted != 0;
        *self = Answer::Wild;
        net.checks.that(Invariant::Bodies, excused, || {
            format!("an answer from nowhere to request {id}: {}", show(&head.line))
        })
    }

    /// More of its body came.
    pub(super) fn data(&mut self, net: &mut Net<'_>, data: &[u8]) -> Check {
        match self {
            Answer::App(rid, _) if net.model.responses[*rid as usize].wild => {
                *self = Answer::Wild;
                Ok(())
            }
            Answer::App(rid, got) => {
                let response = &net.model.responses[*rid as usize].response;
                let good = *got + data.len() <= response.body.len()
                    && is_content(response_key(*rid), *got, data);
                net.coverage.bytes += data.len() as u64;
                net.checks.that(Invariant::Bodies, good, || {
                    format!("the body of response {rid} differs after {got} bytes")
                })?;
                *got += data.len();
                Ok(())
            }
            Answer::Wild => Ok(()),
            other => {
                let message = format!("{} in {other:?}", show(data));
                Err(violated(Invariant::Bodies, message))
            }
        }
    }

    /// The message is over, by its own word if `framed`: how the request ended. `None`: another
    /// answer follows.
    pub(super) fn end(
        &mut self,
        net: &mut Net<'_>,
        id: u32,
        trailers: &[Field],
        [framed, stream]: [bool; 2],
    ) -> Result<Option<Ended>, Box<Violation>> {
        let answer = std::mem::take(self);
        let Answer::App(rid, got) = answer else {
            return Ok(match answer {
                Answer::Interim => None,
                Answer::Proxy => Some(Ended::Refused),
                _ => Some(Ended::Given),
            });
        };
        let told = &net.model.responses[rid as usize];
        if told.wild {
            return Ok(Some(Ended::Given));
        }
        let response = &told.response;
        let (len, cut) = (response.body.len(), response.truncated);
        net.checks.that(Invariant::Bodies, !cut && got == len, || {
            format!("response {rid} seems complete after {got} of {len} bytes")
        })?;
        if framed {
            let sent = response.body.trailers(rid);
            let way = net.model.way(id, stream);
            net.checks.result(Invariant::Bodies, check_trailers(&sent, way, trailers))?;
        }
        Ok(Some(Ended::Answered))
    }
}

/// The answer of an app: to this request, unchanged.
fn check_answer(net: &mut Net<'_>, id: u32, rid: u32, head: &Head, stream: bool) -> Check {
    let told = &mut net.model.responses[rid as usize];
    let of = told.response.request;
    let again = std::mem::replace(&mut told.seen, true);
    net.checks
        .that(Invariant::EndsOnce, of == id, || format!("request {id} gets the answer to {of}"))?;
    net.checks
        .that(Invariant::EndsOnce, !again, || format!("request {id} gets the same answer twice"))?;
    let request = &net.model.requests[id as usize].request;
    let response = &net.model.responses[rid as usize].response;
    let way = net.model.way(id, stream);
    net.checks.result(Invariant::Bodies, check_response_head(request, response, way, head))
}

/// The proxy itself answers.
fn check_refusal(net: &mut Net<'_>, id: u32, status: u16, error: &[u8]) -> Check {
    let sent = &net.model.requests[id as usize];
    let route = sent.route.map(|index| &net.model.routes[index]);
    if let Some(as_routed) =
        route.and_then(|route| route.answers(&sent.request, status, Some(error)))
    {
        return net.checks.that(Invariant::Routed, as_routed || sent.wild, || {
            format!("request {id} fails as no route says: {status} {}", show(error))
        });
    }
    let reason = Reason::ALL.iter().find(|reason| reason.message().as_bytes() == error);
    let allowed = reason.is_some_and(|&reason| {
        let expected = reason == Reason::UnknownAuthority && sent.apps == 0
            || reason == Reason::NoRoute && sent.unrouted;
        sent.wild || expected || may_refuse(reason, &net.mix, net.model.impatient)
    });
    net.checks.that(Invariant::EndsOnce, allowed, || {
        format!("request {id} is refused: {status} {}", show(error))
    })
}
