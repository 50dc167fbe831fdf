//! What rustls says, in our words and in those of the IANA registry.

use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, InvalidMessage, NamedGroup,
    PeerIncompatible,
};

use crate::tls::session::Failure;

/// What kind of thing went wrong.
pub(super) fn failure_of(error: &Error) -> Failure {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            Bad::UnknownIssuer => Failure::UnknownIssuer,
            Bad::Expired | Bad::ExpiredContext { .. } => Failure::Expired,
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => Failure::NotYetValid,
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Failure::WrongIdentity,
            _ => Failure::BadCertificate,
        },
        Error::NoCertificatesPresented => Failure::BadCertificate,
        Error::NoApplicationProtocol => Failure::Protocol,
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Failure::Protocol,
        Error::AlertReceived(AlertDescription::ProtocolVersion) => Failure::Version,
        Error::AlertReceived(_) => Failure::Alert,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => Failure::Version,
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Failure::Version,
        Error::PeerIncompatible(_) => Failure::Parameters,
        Error::DecryptError => Failure::BadRecord,
        Error::PeerMisbehaved(_)
        | Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => Failure::Malformed,
        _ => Failure::Internal,
    }
}

/// A group's name in the IANA registry.
pub(super) fn name_of(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::X25519 => "x25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        _ => "",
    }
}

/// A suite's name in the IANA registry.
pub(super) fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        _ => "",
    }
}
