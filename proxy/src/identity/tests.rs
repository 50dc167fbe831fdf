use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn a_request_has_one_name_and_is_signed_by_its_key() {
    let short = name("web.ns.serviceaccount.identity.linkerd.cluster.local");
    let long = name(&format!("{}.ns.cluster.local", "w".repeat(60)));
    let uri = name("spiffe://cluster.local/ns/web");
    for (name, has_common_name) in [(short, true), (long, false), (uri, true)] {
        let key = Key::generate().unwrap();
        let der = key.request(&name).unwrap();
        let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        request.verify_signature().unwrap();
        let info = &request.certification_request_info;
        let common_names: Vec<_> =
            info.subject.iter_common_name().map(|cn| cn.as_str().unwrap()).collect();
        let expected = if has_common_name { vec![name.as_str()] } else { vec![] };
        assert_eq!(common_names, expected);
        assert_eq!(info.subject_pki.subject_public_key.data.as_ref(), key.der_bytes());
    }
}

#[test]
fn no_two_keys_are_the_same_and_none_is_shown() {
    let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    assert_ne!(one.der_bytes(), other.der_bytes());
    assert_eq!(one.clone().der_bytes(), one.der_bytes());
    assert_eq!(format!("{one:?}"), "Key { .. }");
}
