//! Limits on how often.

use std::time::Duration;

use countersign_authority::{Accepts, Authority, AuthorityOptions, Error, UpdateRequest};
use countersign_protocol::body::M2mToken;
use serde_json::json;

use crate::support::faulty::Fault;
use crate::support::sources::SECOND;
use crate::support::{Story, World, jwt, opaque, revoke_it, secret_of};

impl Story {
    /// In how many seconds a caller may come again; `None` where it is welcome now.
    async fn wait(&self, key: &str) -> Option<u32> {
        match self.authority.authenticate(key, Accepts::Any).await {
            Ok(_) => None,
            Err(Error::RateLimited {
                retry_after_seconds,
            }) => Some(retry_after_seconds),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_instances_limit_counts_all_its_machines_and_nobody_else() {
    let story = Story::new().await;
    let limit = json!({"rate_limit": {"requests": 3, "seconds": 10}});
    story.set(&story.home, limit).await;
    let (sender, receiver) = (&story.sender.key, &story.receiver.key);
    for key in [sender, receiver, sender] {
        assert_eq!(story.wait(key).await, None);
    }
    story.clock.advance(500);
    for key in [sender, receiver] {
        assert_eq!(story.wait(key).await, Some(10));
    }
    assert_eq!(story.wait(&story.stranger.key).await, None);
    // Whoever administers must be able to stop a machine that floods.
    assert_eq!(story.wait(&story.home).await, None);
    story.clock.advance(9 * SECOND + 499);
    assert_eq!(story.wait(sender).await, Some(1));
    story.clock.advance(1);
    assert_eq!(story.wait(sender).await, None);
}

#[tokio::test]
async fn a_limit_that_is_changed_counts_from_then_on() {
    let story = Story::new().await;
    let limit = |seconds: u32| json!({"rate_limit": {"requests": 1, "seconds": seconds}});
    story.set(&story.home, limit(86_400)).await;
    assert_eq!(story.wait(&story.sender.key).await, None);
    assert_eq!(story.wait(&story.sender.key).await, Some(86_400));
    story.set(&story.home, limit(1)).await;
    assert_eq!(story.wait(&story.sender.key).await, None);
    assert_eq!(story.wait(&story.sender.key).await, Some(1));
}

#[tokio::test]
async fn a_machines_limit_counts_that_machine_alone() {
    let story = Story::new().await;
    story
        .set(
            &story.home,
            json!({"machine_rate_limit": {"requests": 1, "seconds": 60}}),
        )
        .await;
    assert_eq!(story.wait(&story.sender.key).await, None);
    assert_eq!(story.wait(&story.sender.key).await, Some(60));
    assert_eq!(story.wait(&story.receiver.key).await, None);
    assert_eq!(story.wait(&story.home).await, None);
    // A rotated key is no way around it.
    let owner = story.actor(&story.home).await;
    let rotated = story
        .authority
        .rotate_machine_key(&owner, story.sender.id, 0)
        .await
        .unwrap();
    assert_eq!(story.wait(&secret_of(rotated)).await, Some(60));
}

#[tokio::test]
async fn the_key_set_is_never_limited() {
    let story = Story::new().await;
    let one = json!({"requests": 1, "seconds": 60});
    story
        .set(
            &story.home,
            json!({"rate_limit": one, "machine_rate_limit": one}),
        )
        .await;
    assert_eq!(story.wait(&story.sender.key).await, None);
    for key in [&story.home, &story.sender.key] {
        let reader = story
            .authority
            .authenticate(key, Accepts::AnyForKeySet)
            .await;
        assert!(reader.is_ok(), "{reader:?}");
    }
    assert_eq!(story.wait(&story.sender.key).await, Some(60));
    let refused = story
        .authority
        .authenticate("ak_unknown", Accepts::AnyForKeySet)
        .await;
    assert!(
        matches!(refused, Err(Error::InstanceKeyInvalid)),
        "as the contract words it there"
    );
}

#[tokio::test]
async fn an_address_fails_twenty_times_in_ten_seconds() {
    let story = Story::new().await;
    let note = |address: &str| match story.authority.note_failure(address.parse().unwrap()) {
        Ok(()) => None,
        Err(Error::RateLimited {
            retry_after_seconds,
        }) => Some(retry_after_seconds),
        Err(error) => panic!("{error}"),
    };
    for _ in 0..20 {
        assert_eq!(note("192.0.2.1"), None);
    }
    assert_eq!(note("192.0.2.1"), Some(10));
    assert_eq!(
        note("::ffff:192.0.2.1"),
        Some(10),
        "the same in other clothes"
    );
    assert_eq!(note("192.0.2.2"), None);
    story.clock.advance(10 * SECOND);
    assert_eq!(note("192.0.2.1"), None);
    for number in 0..20 {
        assert_eq!(note(&format!("2001:db8::{number}")), None);
    }
    assert_eq!(note("2001:db8::ffff"), Some(10), "one network is one party");
}

/// A story in which a machine makes three changes at once.
async fn three_changes() -> Story {
    let options = AuthorityOptions {
        max_changes: 3,
        ..AuthorityOptions::default()
    };
    Story::in_world(World::with_options(options).await).await
}

/// In how many seconds a change is allowed; `None` where it was made.
fn change_wait(outcome: Result<M2mToken, Error>) -> Option<u32> {
    match outcome {
        Ok(_) => None,
        Err(Error::TooManyChanges {
            retry_after_seconds,
            ..
        }) => Some(retry_after_seconds),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_machine_in_a_loop_fills_the_change_log_by_one_entry_a_second() {
    let story = three_changes().await;
    let authority: &Authority = &story.authority;
    let mut tokens = Vec::new();
    for request in [opaque(), jwt(), opaque(), opaque()] {
        tokens.push(story.token(&story.sender, request).await);
    }
    let ids: Vec<_> = tokens.iter().map(|(_, id)| *id).collect();
    let (_, others) = story.token(&story.receiver, opaque()).await;
    let before = story.logged(&story.home).await.len();
    let machine = story.actor(&story.sender.key).await;
    let longer = || UpdateRequest {
        seconds_until_expiration: Some(Some(600.0.into())),
        ..UpdateRequest::default()
    };
    let update = async |id| change_wait(authority.update_token(&machine, id, longer()).await);
    let revoke = async |id| change_wait(authority.revoke(&machine, id, None).await);
    // What writes nothing costs nothing.
    for _ in 0..10 {
        let unchanged = authority.update_token(&machine, ids[0], UpdateRequest::default());
        assert_eq!(change_wait(unchanged.await), None);
        assert!(matches!(
            authority.revoke(&machine, others, None).await,
            Err(Error::NotFound { .. })
        ));
        let signed = authority.update_token(&machine, ids[1], longer()).await;
        assert!(matches!(signed, Err(Error::NotChangeable(_))));
    }
    assert_eq!(update(ids[0]).await, None);
    assert_eq!(revoke(ids[1]).await, None);
    for _ in 0..10 {
        assert_eq!(revoke(ids[1]).await, None, "revoked already");
    }
    let revoking = authority
        .update_token(&machine, ids[2], revoke_it("why"))
        .await;
    assert_eq!(change_wait(revoking), None);
    // All three are used up. Nothing is changed by what is refused.
    assert_eq!(update(ids[3]).await, Some(1));
    assert_eq!(revoke(ids[3]).await, Some(1));
    assert!(
        story
            .verify(&story.receiver.key, &tokens[3].0)
            .await
            .is_ok()
    );
    assert_eq!(story.logged(&story.home).await.len(), before + 3);
    // A new key is no way around it; other machines and whoever administers are not held up, nor are new tokens.
    let owner = story.actor(&story.home).await;
    let rotated = authority
        .rotate_machine_key(&owner, story.sender.id, 60)
        .await
        .unwrap();
    let renewed = story.actor(&secret_of(rotated)).await;
    assert_eq!(
        change_wait(authority.revoke(&renewed, ids[3], None).await),
        Some(1)
    );
    let receiver = story.actor(&story.receiver.key).await;
    assert_eq!(
        change_wait(authority.revoke(&receiver, others, None).await),
        None
    );
    for _ in 0..10 {
        assert_eq!(
            change_wait(authority.update_token(&owner, ids[3], longer()).await),
            None
        );
    }
    story.token(&story.sender, opaque()).await;
    // One comes back each second, up to three.
    story.clock.advance(SECOND);
    assert_eq!(update(ids[3]).await, None);
    assert_eq!(update(ids[3]).await, Some(1));
    story.clock.advance(30 * SECOND);
    let (_, id) = story.token(&story.sender, opaque()).await;
    for _ in 0..3 {
        assert_eq!(update(id).await, None);
    }
    assert_eq!(revoke(id).await, Some(1));
    assert_eq!(change_wait(authority.revoke(&owner, id, None).await), None);
}

#[tokio::test]
async fn a_flood_of_questions_after_readiness_asks_the_store_once_a_second() {
    let story = Story::new().await;
    let ask = || {
        let authority = story.authority.clone();
        async move { authority.check().await.is_ok() }
    };
    // The store takes its time over the first question. Some wait for it, the rest are told that nothing is known.
    story.store.fail_all("check", Fault::Wait);
    let waiting = || (0..16).map(|_| tokio::spawn(ask())).collect::<Vec<_>>();
    let patient = waiting();
    story.until_waiting(1).await;
    for _ in 0..100 {
        let told = tokio::time::timeout(Duration::from_secs(10), ask()).await;
        assert_eq!(told, Ok(false), "nobody else waits");
    }
    assert_eq!(story.store.waiting(), 1, "one of all asks the store");
    story.store.heal();
    for answer in patient {
        assert!(answer.await.unwrap());
    }
    // What it said stands for a second.
    story.store.fail_all("check", Fault::Before);
    for _ in 0..100 {
        assert!(ask().await);
    }
    story.clock.advance(SECOND - 1);
    assert!(ask().await);
    story.clock.advance(1);
    assert!(!ask().await);
    story.store.heal();
    assert!(!ask().await);
    story.clock.advance(SECOND);
    assert!(ask().await);
    // While it is silent, what it said last is repeated for a while and no longer.
    story.store.fail_all("check", Fault::Hang);
    story.clock.advance(SECOND);
    let impatient = waiting();
    story.until_waiting(2).await;
    assert!(ask().await);
    story.clock.advance(4 * SECOND);
    assert!(!ask().await);
    assert_eq!(story.store.waiting(), 2);
    // Those who give up leave their places.
    for task in &impatient {
        task.abort();
    }
    for task in impatient {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    story.store.heal();
    assert!(ask().await);
}

#[tokio::test]
async fn a_change_that_failed_uses_up_no_allowance() {
    let story = three_changes().await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    let actor = story.actor(&story.sender.key).await;
    story.store.fail_all("revoke_token", Fault::Before);
    for _ in 0..5 {
        let refused = story.authority.revoke(&actor, id, None).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    story.store.heal();
    story.authority.revoke(&actor, id, None).await.unwrap();
}
