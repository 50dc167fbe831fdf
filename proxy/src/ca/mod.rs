//! A certificate authority for machines without a control plane: a root of its own, in a folder or
//! in memory, that signs short-lived certificates for the proxies of one trust domain.
//!
//! What it wants of a request is what Linkerd's identity service wants: proof of possession, an
//! ECDSA P-256 key, and one name, which is inside the trust domain. Its root carries the SPIFFE ID
//! of the trust domain (X509-SVID §4.1), so the certificate alone says what it may sign.

mod folder;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use selvedge_core::identity::Name;
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

pub(crate) use request::general_name;
pub use request::{MAX_REQUEST, Refusal, check_name, is_trust_domain};

/// How long what is signed is good for, unless somebody says otherwise: as Linkerd's.
pub const LIFETIME: Duration = Duration::from_hours(24);
/// The shortest that may be asked for: below it there is no time to renew.
pub const MIN_LIFETIME: Duration = Duration::from_secs(20);
/// The longest.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24 * 365);

/// A certificate is good from so long before it was signed: clocks differ (Linkerd: 20 s).
const CLOCK_SKEW: Duration = Duration::from_secs(20);
/// id-at-serialNumber (X.520): tells things of the same name apart.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// A new root's life. Nothing renews it by itself.
const ROOT_LIFETIME: Duration = Duration::from_hours(24 * 3650);

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The issuer's certificate first, then others that are to be trusted.
    certificates: Vec<CertificateDer<'static>>,
    trust_domain: String,
    not_after: SystemTime,
    /// It signed itself: peers have it, and it is in no chain.
    is_root: bool,
}

/// A certificate that was signed, and what somebody needs to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The leaf, then the issuer if it is no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// From when …
    pub not_before: SystemTime,
    /// … and until when it is good.
    pub not_after: SystemTime,
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From `now`, with what clocks may differ by, for `lifetime`.
    pub fn starting(now: SystemTime, lifetime: Duration) -> Self {
        Validity { not_before: now - CLOCK_SKEW, not_after: now + lifetime }
    }
}

impl Authority {
    /// A new authority in memory, with the PEM of its certificate and key for whoever keeps them.
    fn generate(
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<(Self, Certificate, String), Unusable> {
        if !is_trust_domain(trust_domain) {
            return Err(Unusable::TrustDomain(trust_domain.into()));
        }
        let key = KeyPair::generate().map_err(Unusable::Crypto)?;
        let pem = key.serialize_pem();
        let validity = Validity::starting(now, ROOT_LIFETIME);
        let mut params = params(validity)?;
        params.distinguished_name = common_name(&format!("root.{trust_domain}"));
        // Another root of the same trust domain is told from it by name, and not by trying its key.
        let number = params.serial_number.as_ref().map(ToString::to_string).unwrap_or_default();
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.into()), number);
        let id = Name::parse(&format!("spiffe://{trust_domain}"));
        let id = id.map_err(|_| Unusable::TrustDomain(trust_domain.into()))?;
        params.subject_alt_names = vec![general_name(&id)?];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let authority = Authority {
            issuer: Issuer::new(params, key),
            certificates: vec![certificate.der().clone()],
            trust_domain: trust_domain.into(),
            not_after: validity.not_after,
            is_root: true,
        };
        Ok((authority, certificate, pem))
    }

    /// A new authority that lives in memory only.
    ///
    /// # Errors
    /// `trust_domain` is none.
    pub fn in_memory(trust_domain: &str, now: SystemTime) -> Result<Self, Unusable> {
        Self::generate(trust_domain, now).map(|(authority, ..)| authority)
    }

    /// What it is good at: `certificates` in PEM, of which the first belongs to `key`.
    fn of_pem(certificates: &str, key: KeyPair) -> Result<Self, Unusable> {
        let certificates = read_certificates(certificates)?;
        let first = certificates.first().ok_or(Unusable::NoCertificate)?;
        let (_, parsed) = parse_x509_certificate(first).map_err(|_| Unusable::Malformed)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Unusable::OtherKey);
        }
        if !parsed.is_ca() {
            return Err(Unusable::NoAuthority);
        }
        let trust_domain = request::trust_domain_of(&parsed).ok_or(Unusable::NoTrustDomain)?;
        let not_after = time_of(parsed.validity().not_after.timestamp());
        let is_root = parsed.subject() == parsed.issuer();
        let issuer = Issuer::from_ca_cert_der(first, key)?;
        Ok(Authority { issuer, certificates, trust_domain, not_after, is_root })
    }

    /// What it signs for: `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its own certificate, and others that its folder wants trusted.
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs what a request (PKCS #10, DER) asks for, for `lifetime` from `now`, or as long as the
    /// authority itself lasts.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn certify(
        &self,
        request: &[u8],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        let request = request::Request::read(request)?;
        check_name(&request.name, &self.trust_domain)?;
        let mut validity = Validity::starting(now, lifetime);
        validity.not_after = validity.not_after.min(self.not_after);
        if validity.not_after <= now {
            return Err(Refusal::AuthorityExpired);
        }
        self.issue(&request.public_key, &request.name, validity)
            .map_err(|error| Refusal::Signature(error.to_string()))
    }

    /// Signs for a name, whatever it is, and any time: it is for its caller to judge.
    ///
    /// # Errors
    /// The name cannot be put into a certificate.
    pub fn issue(
        &self,
        key: &impl PublicKeyData,
        name: &Name,
        validity: Validity,
    ) -> Result<Issued, Unusable> {
        let mut params = params(validity)?;
        params.distinguished_name = common_name(name.as_str());
        params.subject_alt_names = vec![general_name(name)?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let mut chain = vec![params.signed_by(key, &self.issuer)?.der().clone()];
        if !self.is_root {
            chain.push(self.certificates[0].clone());
        }
        let Validity { not_before, not_after } = validity;
        Ok(Issued { chain, not_before, not_after })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Parameters with a serial number of their own (RFC 5280 §4.1.2.2) and no name yet.
fn params(validity: Validity) -> Result<CertificateParams, Unusable> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| Unusable::Crypto(Error::RingUnspecified))?;
    // Positive, and of full length.
    serial[0] = serial[0] & 0x3f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(validity.not_before);
    params.not_after = date(validity.not_after);
    Ok(params)
}

/// Of at most 64 characters (X.520, `ub-common-name`): a longer name stands in its SAN alone.
pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    if name.len() <= 64 {
        distinguished.push(DnType::CommonName, name);
    }
    distinguished
}

/// To the second, as certificates have it.
fn date(time: SystemTime) -> OffsetDateTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A time in a certificate.
fn time_of(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(timestamp.try_into().unwrap_or(0))
}

/// When a certificate is good, and whom it names first.
///
/// # Errors
/// It is no certificate.
pub fn describe(certificate: &CertificateDer<'_>) -> Result<(Validity, Option<Name>), Unusable> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| Unusable::Malformed)?;
    let validity = parsed.validity();
    let not_before = time_of(validity.not_before.timestamp());
    let not_after = time_of(validity.not_after.timestamp());
    Ok((Validity { not_before, not_after }, request::first_name(&parsed)))
}

/// Is a chain, leaf first, signed by one of these anchors at its end? Times are not looked at.
pub fn leads_to(chain: &[CertificateDer<'_>], anchors: &[CertificateDer<'_>]) -> bool {
    let Some(Ok((_, last))) = chain.last().map(|der| parse_x509_certificate(der)) else {
        return false;
    };
    anchors.iter().any(|anchor| {
        parse_x509_certificate(anchor).is_ok_and(|(_, anchor)| {
            anchor.subject() == last.issuer()
                && last.verify_signature(Some(anchor.public_key())).is_ok()
        })
    })
}

/// Every certificate of a PEM text, in its order. Anything else in it is passed over.
///
/// # Errors
/// There is none, or one is malformed.
pub fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| Unusable::Malformed)?;
        parse_x509_certificate(&certificate).map_err(|_| Unusable::Malformed)?;
        certificates.push(certificate);
    }
    if certificates.is_empty() { Err(Unusable::NoCertificate) } else { Ok(certificates) }
}

/// Certificates as PEM text.
pub fn write_certificates(certificates: &[CertificateDer<'_>]) -> String {
    let certificates = certificates.iter();
    let pems = certificates.map(|der| pem::Pem::new("CERTIFICATE", der.as_ref()));
    pem::encode_many_config(
        &pems.collect::<Vec<_>>(),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// Why something is no authority, or cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// A PEM text without any.
    NoCertificate,
    /// A certificate or key that cannot be read.
    Malformed,
    /// The certificate is another key's.
    OtherKey,
    /// The certificate may not sign others.
    NoAuthority,
    /// The certificate does not say for whom it signs.
    NoTrustDomain,
    /// This is no trust domain.
    TrustDomain(String),
    /// The cryptography refuses.
    Crypto(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Unusable::Crypto(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::NoCertificate => f.write_str("expected a certificate in PEM, found none"),
            Unusable::Malformed => f.write_str("expected certificates in PEM, one is malformed"),
            Unusable::OtherKey => {
                f.write_str("expected the certificate of the key, its public key is another one")
            }
            Unusable::NoAuthority => {
                f.write_str("expected the certificate of an authority (basicConstraints CA:TRUE)")
            }
            Unusable::NoTrustDomain => f.write_str(
                "expected a certificate with the URI of its trust domain, like \
                 spiffe://cluster.local, among its subjectAltNames",
            ),
            Unusable::TrustDomain(text) => {
                write!(f, "{text:?}: expected a trust domain in lower case, like cluster.local")
            }
            Unusable::Crypto(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Unusable {}
