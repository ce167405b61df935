//! A store that fails at every call in turn: before the call, or after it took effect with the answer lost. Nothing panics,
//! no verification is wrongly right, and what was acknowledged holds (P3, P4).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use countersign_authority::{Accepts, Error};
use countersign_store::{Caller, ChainKey, NewChange, Presented, Room, Store as _};

use crate::support::driver::{Act, By, Driver, Kind};
use crate::support::faulty::Fault;
use crate::support::sources::{DAY, HOUR, MINUTE};
use crate::support::{Story, jwt, lasting, opaque, string_of};

/// Every operation at least once. Machines 0 and 2 are the senders of the two instances, 1 and 3 the receivers.
const STORY: [Act; 40] = [
    Act::Issue(0, Kind::Opaque, 3600.0),
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::Issue(0, Kind::Pooled(60), 3600.0),
    Act::Issue(0, Kind::Pooled(60), 7200.0),
    Act::Issue(2, Kind::Opaque, 3600.0),
    Act::Verify(0),
    Act::Verify(1),
    Act::Revoke(0, By::Owner),
    Act::Verify(0),
    Act::Revoke(0, By::Instance),
    Act::Revoke(1, By::Machine(1)),
    Act::Revoke(1, By::Instance),
    Act::Verify(1),
    Act::Extend(2, By::Owner, 60.0),
    Act::Issue(0, Kind::Pooled(60), 3600.0),
    Act::CreateMachine {
        instance: 0,
        scope: 1,
    },
    Act::AddScope(1, 0),
    Act::AddScope(0, 1),
    Act::Issue(1, Kind::Opaque, 3600.0),
    Act::RemoveScope(0, 1),
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::RenameMachine(0),
    Act::Rotate(0, 60),
    Act::Rotate(0, 0),
    Act::Reveal(0),
    Act::WriteScopesClaim(0, false),
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::Advance(MINUTE),
    Act::Maintain,
    Act::Verify(2),
    Act::EndTokens(0),
    Act::Verify(2),
    Act::Issue(0, Kind::Pooled(60), 3600.0),
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::EndAllTokens(0),
    Act::Issue(0, Kind::Opaque, 3600.0),
    Act::DeleteMachine(1),
    Act::Verify(3),
    Act::Advance(HOUR),
    Act::Maintain,
];

/// The costly acts about signing keys, apart.
const SIGNING_STORY: [Act; 7] = [
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::RotateSigningKey(0),
    Act::Issue(0, Kind::Jwt, 3600.0),
    Act::DeleteOldSigningKey(0),
    Act::Verify(0),
    Act::Advance(MINUTE),
    Act::Maintain,
];

/// Tells the story again and again, each time with a fault at the next call, until no call is left to fail.
async fn sweep(story: &[Act], fault: Fault) {
    let (template, instances) = Driver::template().await;
    for number in 1.. {
        let mut driver = Driver::new(&template, &instances, true).await;
        driver.world().store.fail_call(number, fault);
        for act in story {
            driver.act(*act).await;
        }
        driver.check_all().await;
        let is_clean = driver.world().store.heal();
        driver.act(Act::Restart).await;
        driver.check_all().await;
        driver.check_logs().await;
        if is_clean {
            assert!(number > 10, "the faults did happen");
            return;
        }
    }
}

#[tokio::test]
async fn a_call_that_fails_changes_nothing_that_was_acknowledged() {
    sweep(&STORY, Fault::Before).await;
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_never_taken_for_a_success() {
    sweep(&STORY, Fault::After).await;
}

#[tokio::test]
async fn signing_keys_survive_faults_as_well() {
    for fault in [Fault::Before, Fault::After] {
        sweep(&SIGNING_STORY, fault).await;
    }
}

#[tokio::test]
async fn while_the_store_is_silent_nothing_verifies() {
    let story = Story::new().await;
    let actor = story.actor(&story.receiver.key).await;
    let tokens = [
        story.token(&story.sender, opaque()).await.0,
        story.token(&story.sender, jwt()).await.0,
    ];
    for fault in [Fault::Before, Fault::After, Fault::Corrupt] {
        for operation in ["verification", "find_token"] {
            story.store.fail_all(operation, fault);
        }
        for token in &tokens {
            let refusals = [
                story.authority.verify(&actor, token).await.err(),
                story
                    .authority
                    .verify_presented(&story.receiver.key, token)
                    .await
                    .err(),
                story.authority.whoami(token).await.err(),
            ];
            for refused in refusals {
                let is_right = match fault {
                    Fault::Corrupt => matches!(refused, Some(Error::Damaged(_))),
                    _ => matches!(refused, Some(Error::Unavailable(_))),
                };
                assert!(is_right, "{refused:?}");
            }
        }
        story.store.heal();
    }
    // Nor is anybody admitted while keys cannot be looked up.
    story.store.fail_all("caller", Fault::Before);
    let refusals = [
        story
            .authority
            .authenticate(&story.receiver.key, Accepts::Any)
            .await
            .err(),
        story.authority.whoami(&story.receiver.key).await.err(),
    ];
    for refused in refusals {
        assert!(
            matches!(refused, Some(Error::Unavailable(_))),
            "{refused:?}"
        );
    }
    story.store.heal();
    // The operator has no key; its verification reads the token alone.
    let operator = story.operator_for(&story.home).await;
    story.store.fail_all("token", Fault::Before);
    for token in &tokens {
        let refused = story.authority.verify(&operator, token).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    story.store.heal();
    for token in &tokens {
        assert!(story.verify(&story.receiver.key, token).await.is_ok());
        assert!(story.authority.verify(&operator, token).await.is_ok());
    }
}

#[tokio::test]
async fn a_reveal_without_an_entry_in_the_log_shows_nothing() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    story.store.fail_all("reveal_machine_key", Fault::After);
    assert!(
        story
            .authority
            .reveal_machine_key(&owner, story.sender.id)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_signing_key_that_was_published_without_an_answer_is_shown_before_it_signs() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    story.store.fail_all("insert_signing_key", Fault::After);
    assert!(
        story
            .authority
            .rotate_signing_key(&owner, false)
            .await
            .is_err()
    );
    assert_eq!(story.authority.jwks(&owner).unwrap().keys.len(), 2);
}

#[tokio::test]
async fn what_became_of_signing_keys_elsewhere_is_noticed_at_once_or_within_a_minute() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, _) = story.token(&story.sender, lasting(7200.0, jwt())).await;
    let instance = owner.instance_id();
    let old = instance.first_signing_key();
    story
        .authority
        .rotate_signing_key(&owner, true)
        .await
        .unwrap();
    let change = NewChange {
        at: story.authority.now(),
        actor: "another process".to_owned(),
        key: None,
        chain: ChainKey::new(1, &[0; 32]),
    };
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    assert!(
        story
            .store
            .delete_signing_key(instance, old, None, change)
            .await
            .unwrap()
    );
    // The store says that the key is gone. The key set is read from memory.
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
    assert_eq!(story.authority.jwks(&owner).unwrap().keys.len(), 2);
    story.clock.advance(MINUTE);
    story.authority.maintain().await.unwrap();
    assert_eq!(story.authority.jwks(&owner).unwrap().keys.len(), 1);
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
}

#[tokio::test]
async fn a_signing_key_that_was_deleted_without_an_answer_stops_verifying() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, _) = story.token(&story.sender, lasting(7200.0, jwt())).await;
    let old = owner.instance_id().first_signing_key();
    story
        .authority
        .rotate_signing_key(&owner, true)
        .await
        .unwrap();
    story.store.fail_all("delete_signing_key", Fault::After);
    assert!(
        story
            .authority
            .delete_signing_key(&owner, old)
            .await
            .is_err()
    );
    story.store.heal();
    // Whoever asks again learns that it is gone, and it is.
    let again = story.authority.delete_signing_key(&owner, old).await;
    assert!(matches!(again, Err(Error::NotFound { .. })));
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
}

#[tokio::test]
async fn a_signing_key_stays_where_its_jwt_arrives_just_before_it_would_be_deleted() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let sender = story.actor(&story.sender.key).await;
    // Signed, and on its way to the store while its key is replaced and seems to be unused.
    story.store.fail_all("insert_token", Fault::Wait);
    let issuing = {
        let (authority, request) = (story.authority.clone(), lasting(7200.0, jwt()));
        tokio::spawn(async move { authority.issue(&sender, &request).await })
    };
    story.until_waiting(1).await;
    let rotated = story.authority.rotate_signing_key(&owner, true).await;
    rotated.unwrap();
    story.clock.advance(2 * MINUTE);
    story.store.fail_all("delete_signing_key", Fault::Wait);
    let maintaining = {
        let authority = story.authority.clone();
        tokio::spawn(async move { authority.maintain().await })
    };
    story.until_waiting(2).await;
    // They go on in the order in which they came.
    story.store.heal();
    let issued = issuing.await.unwrap().unwrap();
    maintaining.await.unwrap().unwrap();
    let verified = story.verify(&story.receiver.key, string_of(&issued)).await;
    assert!(verified.is_ok(), "{verified:?}");
}

/// Notices that an operation of the store succeeds. The next [`FaultyStore::heal`] removes the spy, not what it has noticed.
///
/// [`FaultyStore::heal`]: crate::support::faulty::FaultyStore::heal
fn spy_on<T: 'static>(story: &Story, operation: &'static str) -> Arc<AtomicBool> {
    let noticed = Arc::new(AtomicBool::new(false));
    let spy = Arc::clone(&noticed);
    let notice = move |_: &mut T| spy.store(true, Ordering::SeqCst);
    story.store.alter(operation, notice);
    noticed
}

#[tokio::test]
async fn a_duty_that_fails_keeps_no_other_from_being_done() {
    let failing = [
        "record_uses",
        "erase_expired_secrets",
        "list_signing_keys",
        "make_room",
        "sweep_tokens",
    ];
    for operation in failing {
        let story = Story::new().await;
        let owner = story.actor(&story.home).await;
        let (_, id) = story.token(&story.sender, opaque()).await;
        // The digest under which the store finds the older key.
        let digest = Arc::new(Mutex::new(None));
        let spy = Arc::clone(&digest);
        story
            .store
            .alter("caller", move |found: &mut Option<Caller>| {
                if let Some(Caller::Machine { key, .. }) = found {
                    *spy.lock().unwrap() = Some(key.digest);
                }
            });
        story.actor(&story.sender.key).await;
        story.store.heal();
        let older = Presented::Machine(digest.lock().unwrap().unwrap());
        let rotated = story
            .authority
            .rotate_machine_key(&owner, story.sender.id, 60);
        rotated.await.unwrap();
        let start = story.store.clock_floor().await.unwrap();
        let signing_keys = async || {
            let keys = story.store.list_signing_keys(owner.instance_id()).await;
            keys.unwrap().len()
        };
        assert!(story.store.caller(older).await.unwrap().is_some());
        assert_eq!(signing_keys().await, 1);

        story.clock.advance(90 * DAY);
        let has_counted = spy_on::<Option<Room>>(&story, "make_room");
        story.store.fail_all(operation, Fault::Before);
        let outcome = story.authority.maintain().await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        story.store.heal();
        let done = [
            story.store.clock_floor().await.unwrap() > start,
            story.store.caller(older).await.unwrap().is_none(),
            signing_keys().await > 1,
            has_counted.load(Ordering::SeqCst),
            story
                .store
                .find_token(id.locator())
                .await
                .unwrap()
                .is_none(),
        ];
        assert_eq!(done, failing.map(|other| other != operation), "{operation}");
    }
}
