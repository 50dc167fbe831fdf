use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, IsCa, PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SanType};

use super::*;
use crate::identity::Key;

const NAME: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";
const HOUR: Duration = Duration::from_hours(1);

fn name_of(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn san(text: &str) -> SanType {
    let name = text.try_into().unwrap();
    if text.contains("://") { SanType::URI(name) } else { SanType::DnsName(name) }
}

fn authority() -> Authority {
    Authority::in_memory("cluster.local", SystemTime::now()).unwrap()
}

/// A request with something unusual about it.
fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let key = Key::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.distinguished_name = common_name(NAME);
    change(&mut params);
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn a_certificate_says_what_was_asked_for_and_no_more() {
    let (authority, now) = (authority(), SystemTime::now());
    for name in [NAME, "spiffe://cluster.local/ns/web"] {
        let key = Key::generate().unwrap();
        let name = name_of(name);
        let request = key.request(&name).unwrap();
        let issued = authority.certify(&request, HOUR, now).unwrap();
        let [leaf] = &issued.chain[..] else { panic!("{issued:?}") };
        let (validity, found) = describe(leaf).unwrap();
        assert_eq!(found.unwrap(), name);
        let (_, leaf) = parse_x509_certificate(leaf).unwrap();
        assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.der_bytes());
        assert!(!leaf.is_ca());
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && !usage.any);
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(!names.critical, "it has a subject");
        // To the second.
        let lasts = validity.not_after.duration_since(validity.not_before).unwrap();
        assert_eq!(lasts.as_secs(), (HOUR + CLOCK_SKEW).as_secs());
        let (_, root) = parse_x509_certificate(&authority.anchors()[0]).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(leaf.issuer(), root.subject());
        // The same request again is another certificate.
        let again = authority.certify(&request, HOUR, now).unwrap();
        let (_, again) = parse_x509_certificate(&again.chain[0]).unwrap();
        assert_ne!(again.raw_serial(), leaf.raw_serial());
        assert_eq!(again.raw_serial().len(), 16);
    }
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = authority();
    let near = authority.not_after() - HOUR;
    let request = Key::generate().unwrap().request(&name_of(NAME)).unwrap();
    let issued = authority.certify(&request, HOUR * 24, near).unwrap();
    assert_eq!(issued.not_after, authority.not_after());
    let over = authority.certify(&request, HOUR, authority.not_after());
    assert_eq!(over, Err(Refusal::AuthorityExpired));
}

#[test]
fn what_is_asked_for_wrongly_is_refused() {
    let authority = authority();
    let foreign =
        |name: &str| Refusal::Foreign { name: name_of(name), trust_domain: "cluster.local".into() };
    let named = |name: &str| {
        let name = san(name);
        request(|params| {
            params.distinguished_name = DistinguishedName::new();
            params.subject_alt_names = vec![name];
        })
    };
    let bad = |name: &str| Refusal::BadName(name.into());
    let mut forged = request(|_| {});
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let other_curve = {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    let cases = [
        (Vec::new(), Refusal::Malformed),
        (b"-----BEGIN".to_vec(), Refusal::Malformed),
        (vec![0x30; MAX_REQUEST + 1], Refusal::TooLong(MAX_REQUEST + 1)),
        (other_curve, Refusal::KeyType),
        (
            request(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            Refusal::WantsAuthority,
        ),
        (request(|params| params.subject_alt_names.clear()), Refusal::Names(0)),
        (request(|params| params.subject_alt_names.push(san(NAME))), Refusal::Names(2)),
        (
            request(|params| params.subject_alt_names.push(san("spiffe://cluster.local/a"))),
            Refusal::Names(2),
        ),
        (
            request(|params| {
                params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
            }),
            Refusal::Names(1),
        ),
        (
            request(|params| params.distinguished_name = common_name("api.cluster.local")),
            Refusal::Subject(name_of(NAME)),
        ),
        (
            request(|params| params.distinguished_name.push(DnType::OrganizationName, "x")),
            Refusal::Subject(name_of(NAME)),
        ),
        (named("web.elsewhere.local"), foreign("web.elsewhere.local")),
        (named("webcluster.local"), foreign("webcluster.local")),
        (named("cluster.local"), foreign("cluster.local")),
        (named("web.cluster.local.evil"), foreign("web.cluster.local.evil")),
        (named("spiffe://evil/web"), foreign("spiffe://evil/web")),
        (named("*.cluster.local"), bad("*.cluster.local")),
        (named("WEB.cluster.local"), bad("WEB.cluster.local")),
        (named("web..cluster.local"), bad("web..cluster.local")),
        (named("web.cluster.local."), bad("web.cluster.local.")),
        (named("spiffe://cluster.local"), foreign("spiffe://cluster.local")),
        (
            request(|params| {
                params.subject_alt_names = vec![SanType::URI(NAME.try_into().unwrap())];
            }),
            bad(NAME),
        ),
        (named("spiffe://cluster.local/"), bad("spiffe://cluster.local/")),
        (named("spiffe://cluster.local/a/../b"), bad("spiffe://cluster.local/a/../b")),
        (named("spiffe://u@cluster.local/a"), bad("spiffe://u@cluster.local/a")),
        (named("https://cluster.local/a"), bad("https://cluster.local/a")),
    ];
    for (request, refusal) in cases {
        let answer = authority.certify(&request, HOUR, SystemTime::now());
        assert_eq!(answer, Err(refusal));
    }
    let answer = authority.certify(&forged, HOUR, SystemTime::now());
    assert!(matches!(answer, Err(Refusal::Signature(_))), "{answer:?}");
    // The twin: what is usual, and a subject that is left out.
    for good in [request(|_| {}), named(NAME), named("spiffe://cluster.local/a.b/-_")] {
        authority.certify(&good, HOUR, SystemTime::now()).unwrap();
    }
}

#[test]
fn damage_to_a_request_gets_nobody_another_name_or_key() {
    let authority = authority();
    let key = Key::generate().unwrap();
    let good = key.request(&name_of(NAME)).unwrap();
    for cut in 0..good.len() {
        assert!(authority.certify(&good[..cut], HOUR, SystemTime::now()).is_err(), "{cut}");
    }
    for byte in 0..good.len() {
        let mut damaged = good.clone();
        damaged[byte] ^= 1 << (byte % 8);
        // The encoding of the signature has slack; what is signed has none.
        let Ok(issued) = authority.certify(&damaged, HOUR, SystemTime::now()) else { continue };
        assert_eq!(describe(&issued.chain[0]).unwrap().1, Some(name_of(NAME)), "{byte}");
        let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
        assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.der_bytes(), "{byte}");
    }
}

#[test]
fn a_trust_domain_is_a_name_in_lower_case() {
    for good in ["cluster.local", "local", "a-b.c1"] {
        let authority = Authority::in_memory(good, SystemTime::now()).unwrap();
        assert_eq!(authority.trust_domain(), good);
    }
    for bad in ["", ".", "Cluster.local", "a/b", "spiffe://a", "a.", "-a", "a b", "ä"] {
        let error = Authority::in_memory(bad, SystemTime::now()).unwrap_err();
        assert_eq!(error, Unusable::TrustDomain(bad.into()));
    }
}

#[test]
fn a_folder_keeps_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/b");
    let made = Authority::init(&folder, "cluster.local", SystemTime::now()).unwrap();
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("ca.key"), 0o600);
    let loaded = Authority::load(&folder).unwrap();
    assert_eq!(loaded.anchors(), made.anchors());
    assert_eq!(loaded.trust_domain(), "cluster.local");
    assert!(loaded.is_root);
    let request = request(|_| {});
    let issued = loaded.certify(&request, HOUR, SystemTime::now()).unwrap();
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
    let (_, root) = parse_x509_certificate(&made.anchors()[0]).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();

    // It is not made again.
    let key = fs::read(folder.join("ca.key")).unwrap();
    let error = Authority::init(&folder, "cluster.local", SystemTime::now()).unwrap_err();
    let expected = format!("{}/ca.crt: is there already, nothing was written", folder.display());
    assert_eq!(error, expected);
    fs::remove_file(folder.join("ca.crt")).unwrap();
    let error = Authority::init(&folder, "cluster.local", SystemTime::now()).unwrap_err();
    let expected = format!("{}/ca.key: is there already, nothing was written", folder.display());
    assert_eq!(error, expected);
    assert_eq!(fs::read(folder.join("ca.key")).unwrap(), key);
    assert!(!folder.join("ca.crt").exists());
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Authority::init(folder, "cluster.local", SystemTime::now()).unwrap();
    let key = folder.join("ca.key");
    for wide in [0o644, 0o640, 0o604, 0o601, 0o700, 0o666, 0o620, 0o4600] {
        fs::set_permissions(&key, Permissions::from_mode(wide)).unwrap();
        let error = Authority::load(folder).unwrap_err();
        let expected = format!(
            "{}: its mode is {wide:04o}, expected 0600 or less: others may have read it (chmod 600)",
            key.display()
        );
        assert_eq!(error, expected);
    }
    for narrow in [0o600, 0o400] {
        fs::set_permissions(&key, Permissions::from_mode(narrow)).unwrap();
        Authority::load(folder).unwrap();
    }
}

#[test]
fn a_folder_that_does_not_fit_together_is_refused() {
    let one = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (one, other) = (one.path(), other.path());
    for folder in [one, other] {
        Authority::init(folder, "cluster.local", SystemTime::now()).unwrap();
    }
    let certificate = one.join("ca.crt");
    let own = fs::read_to_string(&certificate).unwrap();
    let load = |text: &str| {
        fs::write(&certificate, text).unwrap();
        let located = format!("{}: ", certificate.display());
        Authority::load(one)
            .map_err(|error| error.strip_prefix(&located).unwrap_or(&error).to_owned())
    };
    let foreign = fs::read_to_string(other.join("ca.crt")).unwrap();
    assert_eq!(load(&foreign).unwrap_err(), Unusable::OtherKey.to_string());
    assert_eq!(load("").unwrap_err(), Unusable::NoCertificate.to_string());
    assert_eq!(load("hello").unwrap_err(), Unusable::NoCertificate.to_string());
    let broken = own.replacen("MII", "MIJ", 1);
    assert_eq!(load(&broken).unwrap_err(), Unusable::Malformed.to_string());
    // Another root behind its own is one more that is to be trusted.
    assert_eq!(load(&(own.clone() + &foreign)).unwrap().anchors().len(), 2);

    // Certificates of its own key that are no authority's, or do not say for whom.
    let key = KeyPair::from_pem(&fs::read_to_string(one.join("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    let leaf = params.self_signed(&key).unwrap();
    assert_eq!(load(&leaf.pem()).unwrap_err(), Unusable::NoAuthority.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let nobody = params.self_signed(&key).unwrap();
    assert_eq!(load(&nobody.pem()).unwrap_err(), Unusable::NoTrustDomain.to_string());
    load(&own).unwrap();

    fs::write(one.join("ca.key"), "no key").unwrap();
    let error = Authority::load(one).unwrap_err();
    assert!(error.starts_with(&format!("{}/ca.key: no private key: ", one.display())), "{error}");
    fs::remove_file(one.join("ca.key")).unwrap();
    let error = Authority::load(one).unwrap_err();
    assert!(error.contains("ca.key: No such file"), "{error}");
}

#[test]
fn an_issuer_that_is_no_root_stands_in_the_chain() {
    let root = authority();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Authority::init(folder, "cluster.local", SystemTime::now()).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(folder.join("ca.key")).unwrap()).unwrap();
    let mut params = params(Validity::starting(SystemTime::now(), HOUR)).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = common_name("issuer.cluster.local");
    params.subject_alt_names = vec![san("spiffe://cluster.local")];
    let certificate = params.signed_by(&key, &root.issuer).unwrap();
    fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();
    let issuer = Authority::load(folder).unwrap();
    let issued = issuer.certify(&request(|_| {}), HOUR * 9, SystemTime::now()).unwrap();
    assert_eq!(issued.chain.len(), 2);
    assert_eq!(&issued.chain[1], certificate.der());
    assert_eq!(issued.not_after, issuer.not_after());
}

#[test]
fn a_chain_leads_to_who_signed_it() {
    let (one, other) = (authority(), authority());
    let issued = one.certify(&request(|_| {}), HOUR, SystemTime::now()).unwrap();
    assert!(leads_to(&issued.chain, one.anchors()));
    assert!(leads_to(&issued.chain, &[other.anchors(), one.anchors()].concat()));
    let (_, root) = parse_x509_certificate(&one.anchors()[0]).unwrap();
    let (_, twin) = parse_x509_certificate(&other.anchors()[0]).unwrap();
    assert_ne!(root.subject(), twin.subject());
    assert!(!leads_to(&issued.chain, other.anchors()));
    assert!(!leads_to(&issued.chain, &[]));
    assert!(!leads_to(&[], one.anchors()));
}

#[test]
fn pem_goes_both_ways() {
    let (one, other) = (authority(), authority());
    let both = [one.anchors(), other.anchors()].concat();
    let text = write_certificates(&both);
    assert_eq!(read_certificates(&text).unwrap(), both);
    let commented = format!("# ours\n{text}\n# theirs\n");
    assert_eq!(read_certificates(&commented).unwrap(), both);
    assert_eq!(read_certificates("# none"), Err(Unusable::NoCertificate));
}
