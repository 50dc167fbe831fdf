//! Who is asked for certificates: an authority in a folder, or one that serves on this machine.

mod client;
pub(crate) mod keeper;
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use selvedge::ca::{Authority, read_certificates};
use selvedge::mesh::Source;

/// What the authority says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// What the authority itself wants trusted.
    pub(crate) anchors: Vec<CertificateDer<'static>>,
}

/// Asks for a certificate. A folder is read anew each time: it may hold another authority by now.
///
/// # Errors
/// A sentence that says who refused and why.
pub(crate) async fn certify(
    source: &Source,
    request: Vec<u8>,
    lifetime: Duration,
) -> Result<Granted, String> {
    match source {
        Source::Folder(folder) => {
            let authority = Authority::load(folder)?;
            let issued = authority
                .certify(&request, lifetime, SystemTime::now())
                .map_err(|why| format!("{}: {why}", folder.display()))?;
            Ok(Granted { chain: issued.chain, anchors: authority.anchors().to_vec() })
        }
        Source::Service(addr) => {
            let located = |why: String| format!("http://{addr}: {why}");
            let chain = client::certify(*addr, request).await.map_err(located)?;
            let anchors = client::anchors(*addr).await.map_err(located)?;
            let read = |text: &str| read_certificates(text).map_err(|why| located(why.to_string()));
            Ok(Granted { chain: read(&chain)?, anchors: read(&anchors)? })
        }
    }
}
