//! The proxy's own key. It is made in memory and never leaves it: what is written or sent is the
//! request for a certificate, and signatures.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, Error, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use rustls::sign::{Signer, SigningKey as TlsKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use selvedge_core::identity::Name;
use selvedge_core::tls::rustls::{Material, Rustls, rustls};

use crate::ca::{common_name, general_name};

/// An ECDSA P-256 key pair. Clones are the same key.
///
/// It exists in AWS-LC's memory only, which is zeroed as it is freed; no form of it is ever
/// serialized.
#[derive(Clone)]
pub struct Key(Arc<EcdsaKeyPair>);

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// The system has no entropy.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        pair.map(|pair| Key(Arc::new(pair))).map_err(|_| Error::RingUnspecified)
    }

    /// Asks for a certificate for this name, in DER (PKCS #10).
    ///
    /// # Errors
    /// The name cannot be put into one.
    pub fn request(&self, name: &Name) -> Result<Vec<u8>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name.as_str());
        params.subject_alt_names = vec![general_name(name)?];
        let request = params.serialize_request(self)?;
        Ok(request.der().to_vec())
    }

    /// What makes sessions with this key, its certificate, and those trust anchors.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn provider(
        &self,
        chain: Vec<CertificateDer<'static>>,
        anchors: Vec<CertificateDer<'static>>,
    ) -> Result<Rustls, String> {
        let key = Arc::new(self.clone());
        let material = Material { chain, key, anchors, key_log: None };
        Rustls::new(material).map_err(|problem| problem.to_string())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| Error::RingUnspecified)?.as_ref().to_vec())
    }
}

impl TlsKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as _)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.subject_public_key_info().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = SigningKey::sign(self, message);
        signature.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
