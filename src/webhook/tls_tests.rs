use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Authority, Keeper, LEAF_LIFETIME, Leaf, PemPair, Slot, Source};
use crate::metrics::Metrics;

const DAY: Duration = Duration::from_hours(24);

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn leaf(now: SystemTime) -> Leaf {
    Authority::new(now).unwrap().leaf(&["localhost".to_owned()], now).unwrap()
}

fn write(directory: &Path, certificate: &Leaf, key: &Leaf) {
    std::fs::write(directory.join("tls.crt"), pem("CERTIFICATE", &certificate.chain[0])).unwrap();
    std::fs::write(directory.join("tls.key"), pem("PRIVATE KEY", key.key.secret_der())).unwrap();
}

fn keeper(directory: &Path) -> (Keeper, Arc<Slot>) {
    let slot = Arc::new(Slot::default());
    let source = Source::Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
    (Keeper::new(source, Arc::clone(&slot), Arc::new(Metrics::default())), slot)
}

fn served(slot: &Slot) -> Vec<u8> {
    slot.0.load_full().unwrap().cert[0].to_vec()
}

#[test]
fn a_good_pair_is_taken_and_every_bad_one_leaves_it_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let (mut keeper, slot) = keeper(directory.path());

    keeper.refresh(now);
    assert!(!slot.is_loaded());
    let missing = keeper.logged.clone().unwrap();
    assert!(missing.contains("tls.crt: No such file"), "{missing}");

    let (first, second) = (leaf(now), leaf(now));
    write(directory.path(), &first, &first);
    keeper.refresh(now);
    assert_eq!(served(&slot), first.chain[0].to_vec());
    assert_eq!(keeper.logged, None);

    let expired = leaf(now - LEAF_LIFETIME - DAY);
    let early = leaf(now + DAY);
    let garbage = pem("CERTIFICATE", b"no certificate");
    for (case, expected) in [
        ("mismatched", "certificate and key are not a usable pair: "),
        ("expired", "the certificate expired at "),
        ("early", "the certificate is not valid before "),
        ("garbage", "the certificate cannot be decoded: "),
        ("no key", "no private key in PEM format: "),
        ("no certificate", "no certificate in PEM format: "),
    ] {
        match case {
            "mismatched" => write(directory.path(), &second, &first),
            "expired" => write(directory.path(), &expired, &expired),
            "early" => write(directory.path(), &early, &early),
            "garbage" => std::fs::write(directory.path().join("tls.crt"), &garbage).unwrap(),
            "no key" => {
                write(directory.path(), &second, &second);
                std::fs::write(directory.path().join("tls.key"), "").unwrap();
            }
            _ => std::fs::write(directory.path().join("tls.crt"), "").unwrap(),
        }
        keeper.refresh(now);
        assert_eq!(served(&slot), first.chain[0].to_vec(), "{case}");
        let logged = keeper.logged.clone().unwrap();
        assert!(logged.contains(expected), "{case}: {logged}");
    }

    // What was too early is taken when its time comes, although no byte changes.
    write(directory.path(), &early, &early);
    keeper.refresh(now);
    keeper.refresh(now + DAY);
    assert_eq!(served(&slot), early.chain[0].to_vec());
}

#[test]
fn a_rotated_volume_is_read_through_its_current_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path();
    let now = SystemTime::now();
    let (first, second) = (leaf(now), leaf(now));
    for (version, leaf) in [("..1", &first), ("..2", &second)] {
        std::fs::create_dir(volume.join(version)).unwrap();
        write(&volume.join(version), leaf, leaf);
    }
    std::os::unix::fs::symlink("..1", volume.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), volume.join(name)).unwrap();
    }
    let (mut keeper, slot) = keeper(volume);
    keeper.refresh(now);
    assert_eq!(served(&slot), first.chain[0].to_vec());
    std::os::unix::fs::symlink("..2", volume.join("..new")).unwrap();
    std::fs::rename(volume.join("..new"), volume.join("..data")).unwrap();
    keeper.refresh(now);
    assert_eq!(served(&slot), second.chain[0].to_vec());
}

#[test]
fn our_own_certificate_is_renewed_from_the_same_authority_before_it_expires() {
    let now = SystemTime::now();
    let slot = Arc::new(Slot::default());
    let authority = Authority::new(now).unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let source = Source::Own { authority: Box::new(authority), names };
    let mut keeper = Keeper::new(source, Arc::clone(&slot), Arc::new(Metrics::default()));
    keeper.refresh(now);
    let first = served(&slot);
    keeper.refresh(now + LEAF_LIFETIME / 2);
    assert_eq!(served(&slot), first);
    keeper.refresh(now + LEAF_LIFETIME / 3 * 2 + DAY);
    assert_ne!(served(&slot), first);
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_a_secret_is_served_as_it_comes_and_stays_when_a_bad_one_or_none_follows() {
    let authority = Authority::new(SystemTime::now()).unwrap();
    let pair = || authority.pem_pair(&["localhost".to_owned()], SystemTime::now(), LEAF_LIFETIME).unwrap();
    let (sender, receiver) = tokio::sync::watch::channel(None);
    let slot = Arc::new(Slot::default());
    let source = Source::Secret { name: "own/tls".to_owned(), pair: receiver };
    let mut keeper = Keeper::new(source, Arc::clone(&slot), Arc::new(Metrics::default()));
    keeper.refresh(SystemTime::now());
    assert!(!slot.is_loaded() && keeper.logged.is_none(), "none is there yet, which is no error");

    let (first, second) = (pair(), pair());
    let der = |pair: &PemPair| crate::x509::certificates(pair.certificate.as_bytes()).unwrap()[0].to_vec();
    let mixed = PemPair { certificate: second.certificate.clone(), key: first.key.clone() };
    for bad in [Some(mixed), Some(PemPair { key: "lost".to_owned(), ..second.clone() }), None] {
        sender.send_replace(Some(first.clone()));
        keeper.refresh(SystemTime::now());
        assert_eq!((served(&slot), &keeper.logged), (der(&first), &None));
        sender.send_replace(bad.clone());
        keeper.refresh(SystemTime::now());
        assert_eq!((served(&slot), keeper.logged.is_some()), (der(&first), bad.is_some()));
    }
    assert!(!format!("{first:?}").contains("PRIVATE KEY"));

    // At once, not at the next look, of which there is one at the start.
    let keeping = tokio::spawn(keeper.keep(Duration::from_hours(24)));
    for pair in [second, first, pair()] {
        sender.send_replace(Some(pair.clone()));
        let arrived = async {
            while served(&slot) != der(&pair) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), arrived).await.unwrap();
    }
    keeping.abort();
}
