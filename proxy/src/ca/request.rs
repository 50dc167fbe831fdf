//! What is asked of the authority, and for whom.

use std::fmt;

use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, IsCa, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SanType,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The longest request that is looked at, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// The one subjectAltName of a proxy's certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// `web.ns.serviceaccount.identity.linkerd.cluster.local`.
    Dns(String),
    /// `spiffe://cluster.local/ns/web`.
    Uri(String),
}

impl San {
    /// A URI if it has a scheme, and a DNS name if not. Whether it is a good one is for
    /// [`San::check`].
    pub fn of(name: &str) -> Self {
        if name.contains("://") { San::Uri(name.into()) } else { San::Dns(name.into()) }
    }

    /// As it stands in the certificate.
    pub fn as_str(&self) -> &str {
        match self {
            San::Dns(name) | San::Uri(name) => name,
        }
    }

    /// Is it a name inside `trust_domain`?
    ///
    /// # Errors
    /// It is not, or no name of the mesh at all.
    pub fn check(&self, trust_domain: &str) -> Result<(), Refusal> {
        let name = self.as_str().to_owned();
        let (is_good, is_inside) = match self {
            San::Dns(dns) => (
                is_dns_name(dns),
                dns.strip_suffix(trust_domain).is_some_and(|labels| labels.ends_with('.')),
            ),
            San::Uri(uri) => {
                let id = uri.strip_prefix("spiffe://").and_then(|id| id.split_once('/'));
                (
                    id.is_some_and(|(domain, path)| is_trust_domain(domain) && is_path(path))
                        && uri.len() <= 2048,
                    id.is_some_and(|(domain, _)| domain == trust_domain),
                )
            }
        };
        match (is_good, is_inside) {
            (true, true) => Ok(()),
            (true, false) => Err(Refusal::Foreign { name, trust_domain: trust_domain.into() }),
            (false, _) => Err(Refusal::BadName(name)),
        }
    }

    pub(crate) fn general_name(&self) -> Result<SanType, rcgen::Error> {
        let name = self.as_str().to_owned().try_into()?;
        Ok(match self {
            San::Dns(_) => SanType::DnsName(name),
            San::Uri(_) => SanType::URI(name),
        })
    }

    /// The first DNS name or URI of a certificate.
    pub(super) fn first_of(certificate: &X509Certificate<'_>) -> Option<San> {
        let extension = certificate.subject_alternative_name().ok()??;
        extension.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns((*name).into())),
            GeneralName::URI(uri) => Some(San::Uri((*uri).into())),
            _ => None,
        })
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// At least two labels in lower case, as Kubernetes writes names. No wildcards.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

/// Is this a trust domain, as SPIFFE-ID §2.1 has it, and fit to end DNS names with?
pub fn is_trust_domain(name: &str) -> bool {
    is_dns_name(&format!("{name}.x"))
}

/// As SPIFFE-ID §2.2 says.
fn is_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    path.split('/').all(is_segment)
}

/// What an authority's certificate signs for: its SPIFFE ID, which has no path.
pub(super) fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let extension = certificate.subject_alternative_name().ok()??;
    extension.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            let domain = uri.strip_prefix("spiffe://")?;
            is_trust_domain(domain).then(|| domain.to_owned())
        }
        _ => None,
    })
}

/// A request that may be signed, if its name may.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) public_key: PublicKey,
    pub(super) san: San,
}

impl Request {
    pub(super) fn read(der: &[u8]) -> Result<Self, Refusal> {
        if der.len() > MAX_REQUEST {
            return Err(Refusal::TooLong(der.len()));
        }
        // It checks the signature too: whoever asks holds the key.
        let read = CertificateSigningRequestParams::from_der(&der.into());
        let CertificateSigningRequestParams { params, public_key } =
            read.map_err(|error| match error {
                rcgen::Error::CouldNotParseCertificationRequest => Refusal::Malformed,
                error => Refusal::Signature(error.to_string()),
            })?;
        if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 || public_key.der_bytes().len() != 65 {
            return Err(Refusal::KeyType);
        }
        if params.is_ca != IsCa::NoCa && params.is_ca != IsCa::ExplicitNoCa {
            return Err(Refusal::WantsAuthority);
        }
        let san = match &params.subject_alt_names[..] {
            [SanType::DnsName(name)] => San::Dns(name.as_str().into()),
            [SanType::URI(uri)] => San::Uri(uri.as_str().into()),
            names => return Err(Refusal::Names(names.len())),
        };
        let other = params.distinguished_name.iter().find(|(kind, value)| {
            **kind != DnType::CommonName || text_of(value) != Some(san.as_str())
        });
        if other.is_some() {
            return Err(Refusal::Subject(san.as_str().into()));
        }
        Ok(Request { public_key, san })
    }
}

fn text_of(value: &DnValue) -> Option<&str> {
    match value {
        DnValue::Utf8String(text) => Some(text),
        DnValue::PrintableString(text) => Some(text.as_str()),
        DnValue::Ia5String(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than [`MAX_REQUEST`].
    TooLong(usize),
    /// No PKCS #10.
    Malformed,
    /// It is not signed by the key that it is about, or cannot be.
    Signature(String),
    /// Another kind of key than ECDSA P-256.
    KeyType,
    /// It asks for a certificate that may sign others.
    WantsAuthority,
    /// It has so many subjectAltNames, or one of another kind.
    Names(usize),
    /// Its subject says something else than its one name, which is this.
    Subject(String),
    /// No name of the mesh.
    BadName(String),
    /// A name outside the trust domain.
    Foreign {
        /// The name.
        name: String,
        /// Where the authority signs.
        trust_domain: String,
    },
    /// The authority's own certificate is over.
    AuthorityExpired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooLong(length) => {
                write!(f, "expected a request of at most {MAX_REQUEST} bytes, it has {length}")
            }
            Refusal::Malformed => f.write_str("expected a certificate signing request (PKCS #10)"),
            Refusal::Signature(why) => write!(f, "expected a request signed by its own key: {why}"),
            Refusal::KeyType => f.write_str("expected an ECDSA P-256 key"),
            Refusal::WantsAuthority => f.write_str("expected no request for a CA certificate"),
            Refusal::Names(count) => write!(
                f,
                "expected one subjectAltName, a DNS name or a spiffe URI; there are {count}, or \
                 it is of another kind"
            ),
            Refusal::Subject(name) => {
                write!(f, "expected an empty subject, or CN={name} as its subjectAltName")
            }
            Refusal::BadName(name) => write!(
                f,
                "{name:?}: expected a DNS name in lower case, or spiffe://trust-domain/path"
            ),
            Refusal::Foreign { name, trust_domain } => {
                write!(f, "{name:?}: expected a name in the trust domain {trust_domain}")
            }
            Refusal::AuthorityExpired => f.write_str("the authority's own certificate is over"),
        }
    }
}

impl std::error::Error for Refusal {}
