//! Whether the API server accepts the webhook's certificate. PURE.
//!
//! Input: the registration, the Secret, and the time. Output: findings of `ca-bundle` and `certificate`.

use base64_simd::STANDARD;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::facts::Facts;
use super::finding::{Check, Finding};
use super::registration::{entries, ours};
use crate::cluster::seen::{some, text};
use crate::controller::certificate::registration::Registration;
use crate::controller::certificate::rotation::{Phase, Seen, Step, Times, Why, judge};
use crate::controller::certificate::secret::Stored;
use crate::x509::{self, Der};

/// Whoever renews it has done so by then: the controller does 30 days before, cert-manager after two thirds of its life.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// What to do where nothing is found.
const MADE: &str = "see what makes it: certs/README.md; for the controller, its log and the metric \
    promsidecar_managed_certificate_problem";

fn bundle(entry: &Value) -> Vec<u8> {
    let encoded: String =
        text(&entry["clientConfig"]["caBundle"]).chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode_to_vec(encoded.as_bytes()).unwrap_or_default()
}

/// Whether every entry names an authority that is in force.
pub fn bundles(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("ca-bundle");
    if let Err(forbidden) = &facts.registrations {
        return check.only_forbidden(forbidden);
    }
    let Some(registration) = ours(facts) else {
        check.not_checked("there is no registration");
        return check.end();
    };
    let mut end: Option<Timestamp> = None;
    let (mut missing, mut broken, mut expired) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries(registration) {
        let name = text(&entry["name"]).to_owned();
        let bytes = bundle(entry);
        if bytes.is_empty() {
            missing.push(name);
            continue;
        }
        let Ok(authorities) = x509::certificates(&bytes) else {
            broken.push(name);
            continue;
        };
        let last = authorities.iter().filter_map(|authority| x509::end(authority).ok()).max();
        match last {
            Some(last) if last > facts.now => end = Some(end.map_or(last, |end| end.min(last))),
            _ => expired.push(name),
        }
    }
    for (entries, what) in [
        (missing, "no caBundle, so that the API server does not trust the webhook"),
        (broken, "a caBundle that is no PEM text of certificates"),
        (expired, "a caBundle whose authorities are out of date"),
    ] {
        if !entries.is_empty() {
            check.failed(format!("{what}: {}", some(&entries)), MADE);
        }
    }
    let until = end.map_or_else(String::new, |end| format!(", valid until {}", day(end)));
    check.or_ok(format!("every entry has one{until}"))
}

/// Whether the certificate in the Secret is in force, for the right names, and signed by an authority of every entry.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut check = Check::new("certificate");
    let place = format!("Secret {}/{}", facts.names.own_namespace, facts.names.secret);
    let secret = match &facts.secret {
        Err(forbidden) => return check.only_forbidden(forbidden),
        Ok(None) => {
            check.failed(format!("there is no {place}: the webhook has nothing to serve"), MADE);
            return check.end();
        }
        Ok(Some(secret)) => secret,
    };
    let bytes = STANDARD.decode_to_vec(text(&secret["data"]["tls.crt"]).as_bytes()).unwrap_or_default();
    let chain = match x509::certificates(&bytes) {
        Ok(chain) => chain,
        Err(why) => {
            check.failed(format!("tls.crt of {place} cannot be used: {why}"), MADE);
            return check.end();
        }
    };
    let Some(first) = chain.first() else { return check.end() };
    let key = STANDARD.decode_to_vec(text(&secret["data"]["tls.key"]).as_bytes()).unwrap_or_default();
    match x509::fits(first, &key) {
        Ok(true) => {}
        Ok(false) => check.failed(format!("tls.key of {place} is not the key of tls.crt"), MADE),
        Err(why) => check.failed(format!("tls.key of {place} cannot be used: {why}"), MADE),
    }
    let end = x509::end(first).unwrap_or(Timestamp::MIN);
    if end <= facts.now {
        check.failed(format!("the certificate in {place} ended on {}", day(end)), MADE);
    } else if end.duration_since(facts.now) < SOON {
        let left = end.duration_since(facts.now).as_hours() / 24;
        let found =
            format!("the certificate in {place} ends on {}, in {left} days, and was not renewed", day(end));
        check.warning(found, MADE);
    }
    judge_names(facts, first, &mut check);
    if end > facts.now {
        judge_authorities(facts, &chain, &mut check);
    }
    let rotation = judge_rotation(facts, secret, &place, &mut check);
    check.or_ok(format!(
        "the one in {place} is accepted by every entry that has a caBundle, valid until {}{rotation}",
        day(end)
    ))
}

/// Whether the controller would have to do more than it has, where the Secret is its own; and where its rotation is.
fn judge_rotation(facts: &Facts, secret: &Value, place: &str, check: &mut Check) -> &'static str {
    let Ok(stored) = serde_json::from_value(secret.clone()).map(|secret| Stored::of(&secret)) else {
        return "";
    };
    let registration = ours(facts).and_then(|object| serde_json::from_value(object.clone()).ok());
    let registration = registration.map(|object| Registration::of(&object));
    let judgement = judge(&Seen::at_once(Some(&stored), registration.as_ref(), facts.now), Times::default());
    if let Step::Make(why) | Step::Prepare { why, .. } = &judgement.step
        && *why != Why::Asked
    {
        check.warning(format!("the authority in {place} signs no more: {why}"), MADE);
    }
    let needed = judgement.needed();
    let beyond = registration.iter().filter(|_| !needed.is_empty());
    let beyond = beyond.flat_map(|registration| registration.beyond(&judgement.trusted, needed).into_keys());
    let beyond: Vec<String> = beyond.map(str::to_owned).collect();
    if !beyond.is_empty() {
        let found = format!(
            "authorities that {place} does not name are trusted by the caBundle of {}",
            some(&beyond)
        );
        check.warning(found, "take them out: docs/runbooks/PromsidecarCertificateProblem.md");
    }
    match judgement.phase {
        Phase::Settled => "",
        Phase::Publishing => "; another authority signs once every entry has trusted it for a while",
        Phase::Overlapping => "; authorities that signed before are still trusted",
    }
}

/// Whether it is for the names by which the API server calls.
fn judge_names(facts: &Facts, certificate: &Der, check: &mut Check) {
    let have = x509::names(certificate).unwrap_or_default();
    let registration = ours(facts).and_then(|object| serde_json::from_value(object.clone()).ok());
    let called = registration.and_then(|object| Registration::of(&object).called()).unwrap_or_default();
    // The longer one is for people.
    let called = called.into_iter().filter(|name| !name.ends_with(".cluster.local"));
    let missing: Vec<String> = called.filter(|name| !have.contains(name)).collect();
    if !missing.is_empty() {
        check.failed(
            format!("it is for {}, and the API server calls {}", have.join(", "), missing.join(", ")),
            "let it be made for that name: certs/README.md",
        );
    }
}

/// Whether each entry trusts who signed it.
fn judge_authorities(facts: &Facts, chain: &[Der], check: &mut Check) {
    let accepts = |entry: &&Value| {
        let authorities = x509::certificates(&bundle(entry)).unwrap_or_default();
        authorities.iter().any(|authority| x509::accepted(chain, authority, facts.now).is_ok())
    };
    let entries = ours(facts).map(entries).unwrap_or_default();
    if entries.is_empty() {
        check.not_checked("there is no registration to see whether its entries accept it".to_owned());
        return;
    }
    // What is no bundle at all is told by the other check.
    let with = entries.iter().filter(|entry| x509::certificates(&bundle(entry)).is_ok());
    let refusing: Vec<String> =
        with.filter(|entry| !accepts(entry)).map(|entry| text(&entry["name"]).to_owned()).collect();
    if !refusing.is_empty() {
        check
            .failed(format!("it is not signed by an authority of the caBundle of {}", some(&refusing)), MADE);
    }
}

/// The day of a time.
fn day(time: Timestamp) -> String {
    time.to_string().split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64_simd::STANDARD;
    use serde_json::{Value, json};

    use super::{bundles, check};
    use crate::check::facts::Facts;
    use crate::check::finding::{Finding, Outcome};
    use crate::check::registration::shipped;
    use crate::cluster::seen::Forbidden;
    use crate::names;
    use crate::webhook::certificate::Authority;

    const NAME: &str = "promsidecar-webhook.promsidecar-system.svc";

    /// An installation with a certificate of this authority, trusted by every entry.
    fn installed(authority: &Authority, names: &[&str]) -> Facts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pair = authority.pem_pair(&names, SystemTime::now(), Duration::from_hours(24 * 90)).unwrap();
        let mut registration = shipped("promsidecar-system");
        for entry in registration["webhooks"].as_array_mut().unwrap() {
            entry["clientConfig"]["caBundle"] = encoded(authority.pem());
        }
        Facts {
            now: now(0),
            registrations: Ok(vec![registration]),
            secret: Ok(Some(
                json!({"data": {"tls.crt": encoded(&pair.certificate), "tls.key": encoded(&pair.key)}}),
            )),
            ..Facts::default()
        }
    }

    fn encoded(text: &str) -> Value {
        json!(STANDARD.encode_to_string(text))
    }

    /// So many days from now.
    fn now(days: u64) -> k8s_openapi::jiff::Timestamp {
        let time = SystemTime::now() + Duration::from_hours(24 * days);
        time.try_into().unwrap()
    }

    fn outcomes(findings: &[Finding]) -> Vec<Outcome> {
        findings.iter().map(|finding| finding.outcome).collect()
    }

    #[test]
    fn a_certificate_is_accepted_until_shortly_before_its_end() {
        let authority = Authority::new(SystemTime::now()).unwrap();
        let mut facts = installed(&authority, &[NAME]);
        assert_eq!(outcomes(&bundles(&facts)), [Outcome::Ok]);
        assert_eq!(outcomes(&check(&facts)), [Outcome::Ok]);
        let mut other = installed(&Authority::new(SystemTime::now()).unwrap(), &[NAME]);
        let key = other.secret.as_mut().unwrap().as_mut().unwrap()["data"]["tls.key"].take();
        let mut mixed = installed(&authority, &[NAME]);
        mixed.secret.as_mut().unwrap().as_mut().unwrap()["data"]["tls.key"] = key;
        mixed.registrations = facts.registrations.clone();
        assert!(check(&mixed)[0].found.ends_with("is not the key of tls.crt"), "{:?}", check(&mixed));
        facts.registrations = Ok(Vec::new());
        assert_eq!(outcomes(&check(&facts)), [Outcome::NotChecked]);
        let mut facts = installed(&authority, &[NAME]);
        let end = x509_end(&facts);
        facts.now = end - k8s_openapi::jiff::SignedDuration::from_hours(24);
        let soon = check(&facts);
        assert_eq!(outcomes(&soon), [Outcome::Warning]);
        assert!(soon[0].found.contains(", in 1 days, "), "{soon:?}");
        facts.now = end;
        let ended = check(&facts);
        assert_eq!(outcomes(&ended), [Outcome::Failed]);
        assert!(ended[0].found.contains(" ended on "), "{ended:?}");
    }

    fn x509_end(facts: &Facts) -> k8s_openapi::jiff::Timestamp {
        let secret = facts.secret.as_ref().unwrap().as_ref().unwrap();
        let pem = STANDARD.decode_to_vec(secret["data"]["tls.crt"].as_str().unwrap()).unwrap();
        crate::x509::end(&crate::x509::certificates(&pem).unwrap()[0]).unwrap()
    }

    #[test]
    fn one_for_other_names_or_of_an_authority_that_an_entry_does_not_trust_fails() {
        let authority = Authority::new(SystemTime::now()).unwrap();
        let other = Authority::new(SystemTime::now()).unwrap();
        let found = check(&installed(&authority, &["elsewhere.svc"]));
        assert_eq!(
            (found[0].outcome, &*found[0].found),
            (Outcome::Failed, &*format!("it is for elsewhere.svc, and the API server calls {NAME}"))
        );
        let mut facts = installed(&authority, &[NAME]);
        let registration = &mut facts.registrations.as_mut().unwrap()[0];
        registration["webhooks"][3]["clientConfig"]["caBundle"] = encoded(other.pem());
        let found = check(&facts);
        assert_eq!(outcomes(&found), [Outcome::Failed]);
        assert!(
            found[0].found.ends_with("required-by-namespace.asked-by-pod.sidecar.prometheus.io"),
            "{found:?}"
        );
    }

    /// The same with the Secret as the controller keeps it, and these authorities in it beside the one that signs.
    fn kept(authority: &Authority, others: &[&Authority]) -> Facts {
        let mut facts = installed(authority, &[NAME, &format!("{NAME}.cluster.local")]);
        let secret = facts.secret.as_mut().unwrap().as_mut().unwrap();
        secret["type"] = json!("kubernetes.io/tls");
        secret["metadata"] = json!({"labels": {(names::MANAGED_BY): names::MANAGER}});
        let others: String = others.iter().map(|other| other.pem()).collect();
        secret["data"]["ca.crt"] = encoded(&format!("{}{others}", authority.pem()));
        secret["data"]["ca.key"] = encoded(&authority.key_pem());
        facts
    }

    #[test]
    fn where_a_rotation_is_and_what_the_controller_has_not_done_is_told() {
        let [authority, other] = [(), ()].map(|()| Authority::new(SystemTime::now()).unwrap());
        let found = |facts: &Facts| {
            let findings = check(facts);
            assert_eq!(findings.len(), 1, "{findings:?}");
            (findings[0].outcome, findings[0].found.clone())
        };
        let (outcome, settled) = found(&kept(&authority, &[]));
        assert_eq!((outcome, settled.contains(';')), (Outcome::Ok, false), "{settled}");
        let overlapping = format!("{settled}; authorities that signed before are still trusted");
        assert_eq!(found(&kept(&authority, &[&other])), (Outcome::Ok, overlapping));
        let mut publishing = kept(&authority, &[&other]);
        publishing.secret.as_mut().unwrap().as_mut().unwrap()["data"]["ca-next.key"] =
            encoded(&other.key_pem());
        let waits = format!("{settled}; another authority signs once every entry has trusted it for a while");
        assert_eq!(found(&publishing), (Outcome::Ok, waits));

        let mut lost = kept(&authority, &[]);
        lost.secret.as_mut().unwrap().as_mut().unwrap()["data"]["ca.key"] = encoded("lost");
        let (outcome, lost) = found(&lost);
        assert_eq!(outcome, Outcome::Warning);
        assert!(lost.contains("signs no more: ca.key cannot be used"), "{lost}");

        let mut beyond = kept(&authority, &[]);
        let both = encoded(&format!("{}{}", authority.pem(), other.pem()));
        beyond.registrations.as_mut().unwrap()[0]["webhooks"][3]["clientConfig"]["caBundle"] = both;
        let (outcome, beyond) = found(&beyond);
        assert_eq!(outcome, Outcome::Warning);
        assert!(
            beyond.ends_with("caBundle of required-by-namespace.asked-by-pod.sidecar.prometheus.io"),
            "{beyond}"
        );
    }

    #[test]
    fn bundles_that_are_missing_broken_or_out_of_date_are_told_by_entry() {
        let authority = Authority::new(SystemTime::now()).unwrap();
        let mut facts = installed(&authority, &[NAME]);
        let registration = &mut facts.registrations.as_mut().unwrap()[0];
        registration["webhooks"][0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
        registration["webhooks"][1]["clientConfig"]["caBundle"] = encoded("no PEM");
        let found = bundles(&facts);
        assert_eq!(outcomes(&found), [Outcome::Failed, Outcome::Failed], "{found:?}");
        assert!(found[0].found.starts_with("no caBundle") && found[1].found.contains("no PEM text"));
        facts.now = now(365 * 100);
        assert_eq!(outcomes(&bundles(&facts)).len(), 3);
    }

    #[test]
    fn a_secret_that_may_not_be_read_is_no_failure_and_one_that_is_missing_or_broken_is() {
        let mut facts = Facts::default();
        assert_eq!(outcomes(&check(&facts)), [Outcome::Failed]);
        facts.secret = Ok(Some(json!({"data": {"tls.crt": encoded("broken")}})));
        assert_eq!(outcomes(&check(&facts)), [Outcome::Failed]);
        facts.secret = Err(Forbidden("get secrets".to_owned()));
        assert_eq!(outcomes(&check(&facts)), [Outcome::NotChecked]);
    }
}
