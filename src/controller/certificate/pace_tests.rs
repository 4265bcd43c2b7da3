use std::time::Duration;

use super::Pace;

/// How long each of these writes waited, seconds apart as long as it had to, and whether a contest was told after it.
async fn writes(by: &[(&str, Duration)]) -> Vec<(u64, bool)> {
    let mut pace = Pace::default();
    let mut waits = Vec::new();
    for (by, after) in by {
        tokio::time::sleep(*after).await;
        let wait = pace.wait(by).unwrap_or_default();
        tokio::time::sleep(wait).await;
        assert_eq!(pace.wait(by), None);
        pace.wrote(by);
        waits.push((wait.as_secs(), pace.contested() == Some(*by)));
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_written_at_once_and_no_more_often_than_every_second() {
    let missing = ("", Duration::ZERO);
    assert_eq!(writes(&[missing; 5]).await, [(0, false), (1, false), (1, false), (1, false), (1, false)]);
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_another_bundle_is_followed_ever_more_slowly_and_told_of() {
    let other = ("injector", Duration::ZERO);
    let expected = [
        (0, false),
        (1, false),
        (2, false),
        (4, true),
        (8, true),
        (16, true),
        (32, true),
        (60, true),
        (60, true),
    ];
    assert_eq!(writes(&[other; 9]).await, expected);
    // A person, now and then.
    let rare = ("kubectl", Duration::from_mins(16));
    assert_eq!(writes(&[rare; 5]).await, [(0, false); 5]);
}
