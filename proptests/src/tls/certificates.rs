//! Certificates in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use selvedge_core::time::{Duration, UnixTime};
use selvedge_core::tls::rustls::rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use selvedge_core::tls::rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use selvedge_core::tls::rustls::{Material, Rustls};
use time::OffsetDateTime;

use super::NOW;

/// Somebody who signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its names, in this order: those with a scheme are URIs.
    pub names: Vec<String>,
    /// Not valid before this, nor …
    pub not_before: UnixTime,
    /// … from this on.
    pub not_after: UnixTime,
}

impl Subject {
    /// One name, valid for a day.
    pub fn named(name: &str) -> Self {
        Subject {
            names: vec![name.to_owned()],
            not_before: UnixTime::from_secs(NOW.as_secs() - 60),
            not_after: NOW + Duration::from_hours(24),
        }
    }
}

impl Authority {
    /// A self-signed one.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date(UnixTime::from_secs(0));
        params.not_after = date(UnixTime::from_secs(4_000_000_000));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root");
        Authority { issuer }
    }

    /// Its certificate.
    pub fn anchor(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A provider for somebody, who believes this authority.
    pub fn provider(&self, subject: &Subject) -> Rustls {
        self.provider_of(subject, &[self.anchor()])
    }

    /// The same, who believes these anchors.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn provider_of(&self, subject: &Subject, anchors: &[CertificateDer<'static>]) -> Rustls {
        let mut params = CertificateParams::default();
        for name in &subject.names {
            let text = name.as_str().try_into().expect("ASCII");
            params.subject_alt_names.push(if name.contains("://") {
                SanType::URI(text)
            } else {
                SanType::DnsName(text)
            });
        }
        params.not_before = date(subject.not_before);
        params.not_after = date(subject.not_after);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: any_ecdsa_type(&der).expect("an ECDSA key"),
            anchors: anchors.to_vec(),
            key_log: None,
        };
        Rustls::new(material).expect("they fit together")
    }
}

fn date(at: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_secs().cast_signed()).expect("a date")
}
