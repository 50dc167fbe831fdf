//! The proxy's own key. It is made in memory and never leaves it: what is written or sent is the
//! request for a certificate, and signatures.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, Error, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};

use crate::ca::{San, common_name};

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
    pub fn request(&self, name: &San) -> Result<Vec<u8>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name.as_str());
        params.subject_alt_names = vec![name.general_name()?];
        let request = params.serialize_request(self)?;
        Ok(request.der().to_vec())
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
