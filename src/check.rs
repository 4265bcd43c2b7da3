//! Whether an installation works: what `promsidecar check` finds. PURE.
//!
//! Input: [`Facts`], what the cluster says of everything that matters. Output: findings, each of a check with a name of its own, with
//! what was found and the fix. After a removal: what is [`left`](leftovers).

pub mod certificate;
pub mod cluster;
pub mod facts;
pub mod finding;
pub mod leftovers;
pub mod limits;
pub mod neighbours;
pub mod parts;
pub mod permissions;
pub mod probe;
pub mod registration;
pub mod scrapers;

use facts::Facts;
use finding::Finding;

/// The checks before anything is installed.
pub fn before(facts: &Facts) -> Vec<Finding> {
    [
        cluster::api_server(facts),
        cluster::definitions(facts),
        cluster::kubelets(facts),
        permissions::of_installer(facts),
        neighbours::webhooks(facts),
        neighbours::operator(facts),
        limits::check(facts),
    ]
    .concat()
}

/// Every check, in the order in which one rests on another.
pub fn run(facts: &Facts) -> Vec<Finding> {
    [
        cluster::api_server(facts),
        cluster::definitions(facts),
        cluster::kubelets(facts),
        parts::deployments(facts),
        parts::lease(facts),
        permissions::check(facts),
        registration::check(facts),
        certificate::bundles(facts),
        certificate::check(facts),
        probe::check(facts),
        neighbours::webhooks(facts),
        neighbours::operator(facts),
        parts::policy(facts),
        limits::check(facts),
        scrapers::check(facts),
    ]
    .concat()
}
