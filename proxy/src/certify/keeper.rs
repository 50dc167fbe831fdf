//! Keeps the workers certified: asks the authority when one of them wants a certificate, and gives
//! what comes to all of them.
//!
//! It holds the key, and what is to be trusted. When a file of trust anchors changes, or the mesh
//! file names another authority, the workers get what follows from it at once; connections that
//! there are go on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use selvedge::ca::{self, read_certificates};
use selvedge::identity::Key;
use selvedge::mesh::Identity;
use selvedge_core::identity::Update;
use selvedge_core::time::UnixTime;
use selvedge_tokio::Worker;
use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Granted, certify};
use crate::admin::Counters;
use crate::watch::Watch;

/// Several workers want a certificate at the same time, and the answer to the first goes to all of
/// them. One that asks again waits for longer than this.
const FRESH: Duration = Duration::from_millis(500);

/// Tells a keeper what happened elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Handle(UnboundedSender<Happened>);

impl Handle {
    /// The mesh file says something else about who this proxy is.
    pub(crate) fn changed(&self, identity: Option<Identity>) {
        let _ = self.0.send(Happened::Changed(identity));
    }
}

enum Happened {
    Changed(Option<Identity>),
    /// A worker wants a certificate.
    Wanted,
    /// The authority has answered what was asked as this number.
    Answered(u64, Result<Granted, String>),
}

/// Starts one, as a task.
pub(crate) fn start(
    identity: Option<Identity>,
    workers: Vec<Worker>,
    counters: Arc<Counters>,
) -> Handle {
    let (sender, receiver) = unbounded_channel();
    for worker in workers.clone() {
        let sender = sender.clone();
        tokio::spawn(async move {
            while worker.wants_certificate().await && sender.send(Happened::Wanted).is_ok() {}
        });
    }
    let keeper = Keeper { workers, counters, sender: sender.clone(), asked: 0, current: None };
    tokio::spawn(keeper.stay(identity, receiver));
    Handle(sender)
}

struct Keeper {
    workers: Vec<Worker>,
    counters: Arc<Counters>,
    sender: UnboundedSender<Happened>,
    /// How often an authority was asked.
    asked: u64,
    current: Option<Current>,
}

/// Who the proxy is now.
struct Current {
    identity: Identity,
    key: Key,
    /// The certificate, if there is one.
    chain: Option<Chain>,
    /// What the authority itself wants trusted.
    authority: Vec<Certificate>,
    /// The file that says what is trusted, if there is one.
    anchors: Option<Anchors>,
    /// The question that has no answer yet.
    asking: Option<u64>,
    answered: Option<Instant>,
}

type Certificate = CertificateDer<'static>;
type Chain = Vec<Certificate>;

/// A file of trust anchors.
struct Anchors {
    file: PathBuf,
    certificates: Vec<Certificate>,
    watch: Option<Watch>,
}

impl Anchors {
    fn open(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let certificates = read_certificates(&text).unwrap_or_else(|why| {
            error!("{}: {why}", file.display());
            Vec::new()
        });
        Anchors { watch: Watch::new(&file, text), file, certificates }
    }

    /// True if there are others now.
    fn look(&mut self) -> bool {
        let Some(reading) = self.watch.as_mut().and_then(Watch::poll) else { return false };
        let file = self.file.display();
        let read = |text: String| read_certificates(&text).map_err(|why| why.to_string());
        match reading.and_then(read) {
            Ok(certificates) if certificates == self.certificates => false,
            Ok(certificates) => {
                info!(anchors = certificates.len(), "the trust anchors changed: {file}");
                self.certificates = certificates;
                true
            }
            Err(why) => {
                error!("{file}: {why}");
                warn!("the trust anchors changed: refused, those before stay in effect");
                false
            }
        }
    }
}

impl Current {
    fn anchors(&self) -> &[Certificate] {
        self.anchors.as_ref().map_or(&self.authority, |anchors| &anchors.certificates)
    }

    /// What the workers are to be told of this certificate.
    fn update(&self, chain: &[Certificate]) -> Result<Update, String> {
        let leaf = chain.first().ok_or("there is no certificate")?;
        let (validity, name) = ca::describe(leaf).map_err(|why| why.to_string())?;
        let name = name.ok_or("the certificate names nobody")?;
        let provider = Arc::new(self.key.provider(chain.to_vec(), self.anchors().to_vec())?);
        let time = |at: SystemTime| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            UnixTime::from_secs(since.as_secs())
        };
        Ok(Update {
            provider,
            name,
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        })
    }

    /// The same of one that has just come: peers trust what we trust, so it has to lead there.
    fn accept(&self, chain: &[Certificate]) -> Result<Update, String> {
        if ca::leads_to(chain, self.anchors()) {
            return self.update(chain);
        }
        let authority = &self.identity.ca;
        Err(match &self.anchors {
            Some(Anchors { file, .. }) => {
                let file = file.display();
                format!("{authority}: its certificate does not lead to a trust anchor in {file}")
            }
            None => format!("{authority}: its certificate does not lead to its own trust anchors"),
        })
    }
}

impl Keeper {
    async fn stay(mut self, identity: Option<Identity>, mut receiver: UnboundedReceiver<Happened>) {
        self.change(identity);
        let mut ticks = interval(Watch::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                happened = receiver.recv() => match happened {
                    Some(Happened::Changed(identity)) => self.change(identity),
                    Some(Happened::Wanted) => self.wanted(),
                    Some(Happened::Answered(number, answer)) => self.answered(number, answer),
                    None => return,
                },
                _ = ticks.tick() => self.look(),
            }
        }
    }

    /// Becomes somebody, or nobody.
    fn change(&mut self, identity: Option<Identity>) {
        let before = self.current.take();
        let Some(identity) = identity else { return };
        let same = before.filter(|before| before.identity.name == identity.name);
        let (key, chain, authority) = match same {
            Some(before) => (before.key, before.chain, before.authority),
            None => match Key::generate() {
                Ok(key) => (key, None, Vec::new()),
                Err(error) => return self.tell(&Err(format!("cannot make a key: {error}"))),
            },
        };
        let anchors = identity.anchors_file().map(Anchors::open);
        let (asking, answered) = (None, None);
        self.current = Some(Current { identity, key, chain, authority, anchors, asking, answered });
        self.ask();
    }

    fn wanted(&mut self) {
        let Some(current) = &self.current else { return };
        if current.answered.is_none_or(|at| at.elapsed() >= FRESH) {
            self.ask();
        }
    }

    /// Asks the authority, unless its answer is on the way.
    fn ask(&mut self) {
        let Some(current) = &mut self.current else { return };
        if current.asking.is_some() {
            return;
        }
        self.asked += 1;
        current.asking = Some(self.asked);
        let (number, sender) = (self.asked, self.sender.clone());
        let Identity { name, ca, lifetime, .. } = current.identity.clone();
        let request = current.key.request(&name);
        tokio::spawn(async move {
            let answer = match request {
                Ok(request) => certify(&ca, request, lifetime).await,
                Err(error) => Err(error.to_string()),
            };
            let _ = sender.send(Happened::Answered(number, answer));
        });
    }

    fn answered(&mut self, number: u64, answer: Result<Granted, String>) {
        let Some(current) = &mut self.current else { return };
        if current.asking != Some(number) {
            // Of an authority that is no longer asked.
            return;
        }
        current.asking = None;
        current.answered = Some(Instant::now());
        let result = answer.and_then(|granted| {
            current.authority = granted.anchors;
            let update = current.accept(&granted.chain)?;
            current.chain = Some(granted.chain);
            Ok(update)
        });
        self.counters.certified(result.is_ok());
        self.tell(&result);
    }

    /// Looks whether what is trusted has changed.
    fn look(&mut self) {
        let Some(current) = &mut self.current else { return };
        if !current.anchors.as_mut().is_some_and(Anchors::look) {
            return;
        }
        let Some(chain) = &current.chain else { return self.ask() };
        let update = current.update(chain);
        if !ca::leads_to(chain, current.anchors()) {
            warn!("the certificate does not lead to a trust anchor any more: asking for another");
            self.ask();
        }
        self.tell(&update);
    }

    fn tell(&self, result: &Result<Update, String>) {
        for worker in &self.workers {
            worker.identify(result.clone().map_err(Into::into));
        }
    }
}
