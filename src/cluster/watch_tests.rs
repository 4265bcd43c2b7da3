//! Watches against streams made by hand, with a clock that does not wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use kube::core::Status;
use kube::runtime::watcher::{Error, Event};

use super::{Change, Health, follow, follow_optional};

type Said = Result<Event<u8>, Error>;

fn status(code: u16, message: &str) -> Box<Status> {
    Status { code, message: message.to_owned(), ..Status::default() }.boxed()
}

fn list(objects: &[u8]) -> Vec<Said> {
    let all = objects.iter().map(|object| Ok(Event::InitApply(*object)));
    std::iter::once(Ok(Event::Init)).chain(all).chain([Ok(Event::InitDone)]).collect()
}

/// Follows watches that say these things and go on in silence, one watch after another. Gives the changes.
async fn followed(health: &Health, watches: Vec<Vec<Said>>) -> Vec<Change<u8>> {
    let watches = Arc::new(Mutex::new(VecDeque::from(watches)));
    let changes = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&changes);
    let start = move || -> BoxStream<'static, Said> {
        let said = watches.lock().unwrap().pop_front();
        stream::iter(said.into_iter().flatten()).chain(stream::pending()).boxed()
    };
    let following = follow(health.clone(), start, move |change| taken.lock().unwrap().push(change));
    // Longer than every backoff together; the clock of the test jumps.
    let ended = tokio::time::timeout(Duration::from_hours(1), following).await;
    assert!(ended.is_err(), "a watch is followed for ever");
    Arc::try_unwrap(changes).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_whole_and_what_follows_one_by_one() {
    let health = Health::new("things");
    assert_eq!(health.readiness(), Err("things not known yet".to_owned()));
    let mut said = list(&[1, 2]);
    said.extend([Ok(Event::Apply(3)), Ok(Event::Delete(1))]);
    let changes = followed(&health, vec![said]).await;
    assert_eq!(changes, [Change::All(vec![1, 2]), Change::Applied(3), Change::Deleted(1)]);
    assert_eq!(health.readiness(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn after_an_error_everything_is_listed_anew() {
    let health = Health::new("things");
    let mut broken = list(&[1]);
    broken.push(Err(Error::WatchError(status(410, "too old resource version"))));
    let watches = vec![
        broken,
        vec![Ok(Event::Init), Ok(Event::InitApply(2)), Err(Error::NoResourceVersion)],
        list(&[3]),
    ];
    // The list that was not finished is never seen.
    assert_eq!(followed(&health, watches).await, [Change::All(vec![1]), Change::All(vec![3])]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_with_its_fix_and_what_was_listed_stays_in_use() {
    for (error, why) in [
        (
            Error::InitialListFailed(kube::Error::Api(status(404, "page not found"))),
            "the API server does not know this kind: install its definition (CRD)",
        ),
        (
            Error::InitialListFailed(kube::Error::Api(status(403, "things is forbidden"))),
            "not allowed: things is forbidden; grant it to our service account",
        ),
        (
            Error::WatchStartFailed(kube::Error::Api(status(401, "Unauthorized"))),
            "the API server does not know us: Unauthorized",
        ),
        (Error::WatchError(status(500, "etcd is away")), "etcd is away (500)"),
    ] {
        let health = Health::new("things");
        followed(&health, vec![vec![Err(error)]]).await;
        assert_eq!(health.readiness(), Err(format!("things not known: {why}")));
    }
    let health = Health::new("things");
    followed(&health, vec![list(&[1])]).await;
    assert_eq!(health.stale_for(std::time::Instant::now()), Duration::ZERO);
    let mut ends = list(&[1]);
    ends.push(Err(Error::NoResourceVersion));
    followed(&health, vec![ends]).await;
    assert_eq!(health.readiness(), Ok(()));
    assert!(health.stale_for(std::time::Instant::now() + Duration::from_secs(5)) >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_cluster_need_not_know_has_no_objects_until_it_does() {
    for any_known in [false, true] {
        let health = Health::new("things");
        let unknown = || vec![Ok(Event::Init), Err(Error::WatchError(status(404, "404 page not found")))];
        let watches = Arc::new(Mutex::new(VecDeque::from([unknown(), unknown(), list(&[1]), unknown()])));
        let changes = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&changes);
        let start = || -> BoxStream<'static, Said> {
            match watches.lock().unwrap().pop_front() {
                Some(said) if !said.is_empty() => stream::iter(said).boxed(),
                _ => stream::pending().boxed(),
            }
        };
        let take = move |change| taken.lock().unwrap().push(change);
        let following = follow_optional(health.clone(), start, take, || any_known);
        assert!(tokio::time::timeout(Duration::from_hours(1), following).await.is_err());
        let none = || Change::All(Vec::new());
        let all = Change::All(vec![1]);
        let expected = if any_known { vec![all] } else { vec![none(), none(), all, none()] };
        assert_eq!(*changes.lock().unwrap(), expected);
        assert_eq!(health.readiness(), Ok(()));
        assert_eq!(health.stale_for(std::time::Instant::now()) > Duration::ZERO, any_known);
    }
}
