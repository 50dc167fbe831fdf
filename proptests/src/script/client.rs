//! Clients: what they send. What they make of what they get is in [`answer`](super::answer).

use std::collections::VecDeque;
use std::net::SocketAddr;

use selvedge_core::engine::ConnId;
use selvedge_core::error::IoError;

use super::end::{End, PRELUDES};
use super::mesh::{AUTHORITIES, KEPT, Place, Speaks};
use super::world::{Owner, Sent, World};
use crate::choose::{pick, weighted};
use crate::traffic::request::{self, Ask};
use crate::traffic::wire::Reader;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// `None`: it is over.
    pub(super) conn: Option<ConnId>,
    pub(super) place: Place,
    /// What it wants to send.
    pub(super) out: VecDeque<u8>,
    /// How much it ever wanted to send.
    queued: usize,
    /// How much it has sent.
    pub(super) sent: usize,
    /// It sends no more than this before it has got a 100, or something else.
    pub(super) hold: Option<usize>,
    /// It closes when everything is sent.
    pub(super) finishing: bool,
    /// How much of what it says tells what it speaks. Where slow beginnings are carried as opaque,
    /// it says that at once.
    tells: usize,
    /// Its requests, in order.
    pub(super) requests: Vec<u32>,
    /// How many of them have a complete answer.
    pub(super) answered: usize,
    /// It has said what must be its last.
    last: bool,
    /// From this request on nobody can tell what answers what.
    pub(super) wild_at: Option<usize>,
    /// What came when nobody could tell.
    pub(super) raw: Vec<u8>,
    pub(super) reader: Reader,
    pub(super) current: Current,
    /// Its end of a tunnel. It may speak before the tunnel is there.
    pub(super) end: Option<End>,
    /// The tunnel is there.
    pub(super) tunnelled: bool,
    /// The proxy has closed, or said that it will.
    pub(super) closing: bool,
    /// It said so in an answer.
    pub(super) told: bool,
}

/// The answer that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Current {
    #[default]
    None,
    /// A 1xx.
    Interim,
    /// Of an app, with so many bytes of its body so far.
    App(u32, usize),
    /// Of the proxy itself.
    Proxy,
    /// Of an app that does not know what it says.
    Wild,
}

impl Client {
    pub(super) fn new(conn: ConnId, place: Place) -> Self {
        Client {
            conn: Some(conn),
            place,
            out: VecDeque::new(),
            queued: 0,
            sent: 0,
            hold: None,
            finishing: false,
            tells: 0,
            requests: Vec::new(),
            answered: 0,
            last: false,
            wild_at: None,
            raw: Vec::new(),
            reader: Reader::default(),
            current: Current::None,
            end: None,
            tunnelled: place.speaks != Speaks::Http,
            closing: false,
            told: false,
        }
    }

    fn queue(&mut self, bytes: &[u8]) {
        self.queued += bytes.len();
        self.out.extend(bytes);
    }

    /// Where its tunnel may end.
    pub(super) fn targets(&self, world: &World<'_>) -> Vec<SocketAddr> {
        let last = self.requests.last().map(|&id| &world.requests[id as usize].request);
        world.mesh.targets(self.place, last.and_then(|request| request.authority.as_deref()))
    }

    /// Got an answer to everything, or could not get one.
    pub(super) fn is_served(&self) -> bool {
        self.answered == self.requests.len() || self.told || self.tunnelled
    }
}

impl World<'_> {
    // ---- What a client does ----

    /// It sends some of what it wants to send.
    pub(super) fn client_delivers(&mut self, at: usize) {
        let Some(conn) = self.clients[at].conn else { return };
        let client = &mut self.clients[at];
        if self.faults && self.choose.one_in(8) {
            // It is tired of waiting for a 100.
            client.hold = None;
        }
        let free = client.hold.map_or(usize::MAX, |hold| hold.saturating_sub(client.sent));
        let want = client.out.len().min(free);
        if client.out.is_empty() && client.finishing {
            self.net.read_closed(self.choose, conn);
            return;
        }
        // Without faults no time passes that would matter.
        let least = if self.faults { client.tells.saturating_sub(client.sent).max(1) } else { 1 };
        let most = self.net.readable(self.choose, conn, want);
        if most == 0 {
            return;
        }
        let n = match self.choose.below(5) {
            0 | 1 => most,
            2 => least,
            _ => self.choose.within(1, most),
        };
        let n = n.max(least).min(most);
        let client = &mut self.clients[at];
        let bytes: Vec<u8> = client.out.drain(..n).collect();
        client.sent += n;
        self.net.receive(conn, &bytes);
    }

    /// It has something to say.
    pub(super) fn client_acts(&mut self, at: usize) {
        let client = &self.clients[at];
        if client.finishing {
            return;
        }
        if client.end.is_some() {
            self.send_in_tunnel(Owner::Client(at));
            return;
        }
        if client.place.speaks != Speaks::Http {
            let prelude = match client.place.speaks {
                Speaks::Opaque => pick(self.choose, &PRELUDES),
                // Detection must not take it for HTTP, and cannot if it is not.
                _ => pick(self.choose, &PRELUDES[..5]),
            };
            self.clients[at].end = Some(self.open_end(Owner::Client(at), prelude));
            if self.choose.one_in(4) {
                // The server speaks first, or nobody does.
                return;
            }
            self.send_in_tunnel(Owner::Client(at));
            return;
        }
        if client.last || client.closing {
            if self.choose.flip() {
                self.clients[at].finishing = true;
            }
            return;
        }
        let weights = [10, usize::from(self.faults), 1];
        match weighted(self.choose, &weights) {
            0 => {
                for _ in 0..=self.choose.below(3) {
                    self.queue_request(at, false);
                }
            }
            // What begins like this may not be HTTP.
            1 if client.requests.is_empty() => self.queue_request(at, false),
            1 if self.choose.flip() => self.queue_request(at, true),
            1 => self.queue_noise(at),
            _ => self.clients[at].finishing = true,
        }
    }

    /// It sends in its tunnel, or closes its direction.
    pub(super) fn send_in_tunnel(&mut self, owner: Owner) {
        let n = request::size(self.choose, self.largest) + self.choose.below(60);
        let closes = self.choose.one_in(4);
        let Some(bytes) = self.send_stream(owner, n) else { return };
        let (end, finishing) = match owner {
            Owner::Client(at) => {
                let client = &mut self.clients[at];
                client.queue(&bytes);
                (client.end.as_mut(), &mut client.finishing)
            }
            Owner::App(at) => {
                let app = &mut self.apps[at];
                app.out.extend(bytes);
                (app.end.as_mut(), &mut app.finishing)
            }
        };
        *finishing |= closes;
        if let Some(end) = end {
            end.finished |= closes;
        }
    }

    fn queue_request(&mut self, at: usize, wild: bool) {
        let client = &self.clients[at];
        if client.last {
            return;
        }
        let place = client.place;
        let ask = Ask {
            id: self.requests.len() as u32,
            authorities: if self.faults { &AUTHORITIES } else { &KEPT },
            redirected: place.original_dst.is_some(),
            largest: self.largest,
            // A damaged one would carry anything at all.
            tunnels: !wild,
            users: 0,
        };
        let mut request = request::request(self.choose, ask);
        if wild {
            request::damage(self.choose, &mut request.bytes);
        }
        let client = &mut self.clients[at];
        let start = client.queued;
        if start == 0 {
            let line = request.bytes.split(|&byte| byte == b'\n').find(|line| line.len() > 1);
            client.tells = 5 + line.map_or(0, <[u8]>::len);
        }
        client.queue(&request.bytes);
        client.last |= !request.keep_alive || request.upgrade || request.method == "CONNECT";
        client.requests.push(request.id);
        if wild {
            client.wild_at.get_or_insert(client.requests.len() - 1);
        }
        if request.expect && client.hold.is_none() && client.wild_at.is_none() {
            client.hold = Some(start + request.head_len);
        }
        let wild = client.wild_at.is_some();
        let tunnel = request.upgrade || request.method == "CONNECT";
        self.outcome.requests += 1;
        self.requests.push(Sent {
            request,
            client: at,
            start,
            wild,
            attempts: Vec::new(),
            interims: 0,
            answered: false,
        });
        if tunnel && !wild && self.choose.one_in(3) {
            self.clients[at].end = Some(self.open_end(Owner::Client(at), b""));
            self.send_in_tunnel(Owner::Client(at));
        }
    }

    fn queue_noise(&mut self, at: usize) {
        let noise: [&[u8]; 6] = [
            b"\r\n\r\n\r\n\r\n\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: one.example\r\nA: ",
            b"POST / HTTP/1.1\r\nHost: one.example\r\nContent-Length: 10\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz",
            b"\x00\x01\x02",
        ];
        let noise = pick(self.choose, &noise);
        let client = &mut self.clients[at];
        client.queue(noise);
        client.wild_at.get_or_insert(client.requests.len());
    }

    /// Time passes in which a client that has said nothing may be taken for one that never will: it
    /// then says nothing.
    pub(super) fn hush_clients(&mut self) {
        for client in &mut self.clients {
            let place = client.place;
            let carried = place.listener != 0 || place.original_dst.is_some();
            if carried && client.sent == 0 && place.speaks == Speaks::Http {
                client.out.clear();
                client.requests.clear();
                client.finishing = true;
            }
        }
    }

    /// It does what it still has to do, and closes.
    pub(super) fn client_heals(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.hold = None;
        if client.end.is_some() {
            self.finish_stream(Owner::Client(at));
        } else {
            client.finishing = true;
        }
    }

    /// It resets its connection, or gives up in the middle.
    pub(super) fn client_breaks(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(conn) = client.conn else { return };
        if self.choose.flip() {
            let kind = pick(self.choose, &[IoError::Reset, IoError::TimedOut, IoError::Other]);
            if self.net.failed(conn, kind) {
                // What it wanted to say is lost, and nobody must think that it was all.
                client.out.clear();
            }
        } else if client.end.is_none() {
            client.out.clear();
            client.finishing = true;
            client.wild_at.get_or_insert(client.answered);
            self.forget_requests(at);
        }
    }

    /// What a client will have sent of its requests is no longer what they were.
    fn forget_requests(&mut self, at: usize) {
        let sent = self.clients[at].sent;
        for &id in &self.clients[at].requests {
            let request = &mut self.requests[id as usize];
            request.wild |= request.start + request.request.bytes.len() > sent;
        }
    }
}
