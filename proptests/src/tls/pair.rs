//! Two sessions and two wires between them.

use std::collections::VecDeque;

use bytes::BytesMut;
use selvedge_core::tls::session::MAX_RECORD;
use selvedge_core::tls::transport_header::PROTOCOL;
use selvedge_core::tls::{Expected, Provider, Session};

use super::{NOW, SERVER, name};
use crate::choose::{Choose, weighted};

/// No script is longer.
const STEPS: usize = 400;

/// One end: its session, and what it knows.
struct End {
    session: Box<dyn Session>,
    /// Sealed and not yet across.
    wire: VecDeque<u8>,
    /// What it sealed, and what it opened.
    sealed: Vec<u8>,
    opened: Vec<u8>,
    closed: bool,
    failed: bool,
}

/// What a script did to its wires: from then on, sessions may fail.
#[derive(Default)]
struct Faults {
    any: bool,
}

/// Runs a script between a client and a server. `Err`: what does not hold.
pub fn run(
    choose: &mut dyn Choose,
    client: &dyn Provider,
    server: &dyn Provider,
) -> Result<(), String> {
    let identity = name(SERVER);
    let protocols: &[&[u8]] = if choose.flip() { &[PROTOCOL] } else { &[] };
    let expected = Expected { identity: &identity, server_name: SERVER, protocols };
    let client = client.client(NOW, &expected).map_err(|problem| problem.to_string())?;
    let server = server.server(NOW).map_err(|problem| problem.to_string())?;
    let mut ends = [client, server].map(|session| End {
        session,
        wire: VecDeque::new(),
        sealed: Vec::new(),
        opened: Vec::new(),
        closed: false,
        failed: false,
    });
    let mut faults = Faults::default();
    open(&mut ends, 0, BytesMut::new(), &faults)?;
    for _ in 0..STEPS {
        if choose.is_exhausted() {
            break;
        }
        let side = choose.below(2);
        match weighted(choose, &[8, 4, 1, 1]) {
            0 => cross(choose, &mut ends, side, &faults)?,
            1 => seal(choose, &mut ends[side])?,
            2 if !faults.any => close(&mut ends[side]),
            // rustls 0.23 asserts, in debug builds, that it sends no alert behind its close_notify, and
            // does so when it then meets a record that is damaged.
            _ if ends.iter().all(|end| !end.closed) => {
                damage(choose, &mut ends[side], &mut faults);
            }
            _ => {}
        }
        check(&ends)?;
    }
    // Everything arrives; where nothing was damaged, everything is there.
    while ends.iter().any(|end| !end.wire.is_empty()) {
        for side in [0, 1] {
            let all: Vec<u8> = ends[side].wire.drain(..).collect();
            open(&mut ends, 1 - side, BytesMut::from(&all[..]), &faults)?;
        }
    }
    check(&ends)?;
    if faults.any {
        return Ok(());
    }
    for (near, far) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        let peer = near.session.peer().ok_or("the handshake is not over")?;
        if peer.protocol.as_deref() != protocols.first().copied() {
            return Err(format!("agreed on {:?}", peer.protocol));
        }
        // What is opened after a goodbye was never sealed.
        if near.opened != far.sealed || near.session.is_closed() != far.closed {
            return Err(format!("{} of {} bytes", near.opened.len(), far.sealed.len()));
        }
    }
    let who = |end: &End| end.session.peer().and_then(|peer| peer.identity.clone());
    if who(&ends[0]) != Some(identity) || who(&ends[1]) != Some(name(super::CLIENT)) {
        return Err("somebody is somebody else".into());
    }
    Ok(())
}

/// Some bytes of a wire arrive.
fn cross(
    choose: &mut dyn Choose,
    ends: &mut [End; 2],
    from: usize,
    faults: &Faults,
) -> Result<(), String> {
    let waiting = ends[from].wire.len();
    let n = match choose.below(3) {
        0 => waiting,
        1 => choose.within(1, 7).min(waiting),
        _ => choose.below(waiting + 1),
    };
    let data: Vec<u8> = ends[from].wire.drain(..n).collect();
    open(ends, 1 - from, BytesMut::from(&data[..]), faults)
}

fn open(ends: &mut [End; 2], side: usize, data: BytesMut, faults: &Faults) -> Result<(), String> {
    let end = &mut ends[side];
    if end.failed {
        return Ok(());
    }
    let (mut plain, mut out) = (BytesMut::new(), BytesMut::new());
    let opened = end.session.open(data, &mut plain, &mut out);
    end.opened.extend_from_slice(&plain);
    end.wire.extend(&out);
    if let Err(problem) = opened {
        end.failed = true;
        if !faults.any {
            return Err(format!("{problem} for no reason"));
        }
    }
    Ok(())
}

fn seal(choose: &mut dyn Choose, end: &mut End) -> Result<(), String> {
    if end.session.peer().is_none() || end.closed || end.failed {
        return Ok(());
    }
    let n = match choose.below(3) {
        0 => choose.within(1, 100),
        1 => choose.within(1, 2000),
        _ => MAX_RECORD - choose.below(3),
    };
    let start = end.sealed.len();
    let plain: Vec<u8> = (start..start + n).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut out = BytesMut::new();
    end.session.seal(&plain, &mut out).map_err(|problem| problem.to_string())?;
    if n > 20 && out.windows(20).any(|window| plain.starts_with(window)) {
        return Err("what was sealed can be read".into());
    }
    end.sealed.extend(plain);
    end.wire.extend(&out);
    Ok(())
}

fn close(end: &mut End) {
    if end.session.peer().is_some() && !end.closed && !end.failed {
        let mut out = BytesMut::new();
        end.session.close(&mut out);
        end.wire.extend(&out);
        end.closed = true;
    }
}

/// A bit of what is on a wire is another, or something is there that nobody sent, or is not.
fn damage(choose: &mut dyn Choose, end: &mut End, faults: &mut Faults) {
    faults.any = true;
    let at = choose.below(end.wire.len().max(1));
    match choose.below(3) {
        0 if at < end.wire.len() => end.wire[at] ^= 1 << choose.below(8),
        1 if at < end.wire.len() => drop(end.wire.remove(at)),
        _ => {
            let n = choose.within(1, 40);
            let noise: Vec<u8> = (0..n).map(|_| choose.below(256) as u8).collect();
            end.wire.extend(noise);
        }
    }
}

/// Whatever happened: nobody was told anything that was not said.
fn check(ends: &[End; 2]) -> Result<(), String> {
    for (near, far) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        if !far.sealed.starts_with(&near.opened) {
            return Err("something was opened that was never sealed".into());
        }
        if near.session.is_closed() && !far.closed {
            return Err("it was closed by nobody".into());
        }
        if near.session.held() > 256 * 1024 {
            return Err(format!("{} bytes are held", near.session.held()));
        }
    }
    Ok(())
}
