//! Machines, their keys and scopes.

use std::sync::{Arc, Mutex};

use countersign_authority::{Accepts, Error, MachineRequest, MachineUpdate, Problem};
use countersign_protocol::ids::MachineId;
use countersign_protocol::secret::has_checksum;
use countersign_store::SealedKey;
use serde_json::json;

use crate::support::faulty::Fault;
use crate::support::sources::{HOUR, MINUTE, SECOND, START, SeededRandom};
use crate::support::{Story, opaque, problem_of, secret_of};

fn named(name: &str) -> MachineRequest {
    MachineRequest {
        name: name.into(),
        ..MachineRequest::default()
    }
}

fn nobody() -> MachineId {
    MachineId::generate(
        countersign_protocol::time::Timestamp::EPOCH,
        &SeededRandom::new(7),
    )
}

impl Story {
    async fn is_key(&self, key: &str) -> bool {
        match self.authority.authenticate(key, Accepts::Machine).await {
            Ok(_) => true,
            Err(Error::MachineKeyInvalid) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Rotates the sender's key.
    async fn rotate(&self, previous_token_ttl: i64) -> String {
        let owner = self.actor(&self.home).await;
        let rotated = self
            .authority
            .rotate_machine_key(&owner, self.sender.id, previous_token_ttl)
            .await;
        secret_of(rotated.unwrap())
    }

    async fn reveal(&self) -> Result<String, Error> {
        let owner = self.actor(&self.home).await;
        let revealed = self
            .authority
            .reveal_machine_key(&owner, self.sender.id)
            .await?;
        Ok(secret_of(revealed))
    }
}

#[tokio::test]
async fn a_machine_has_a_name_a_lifetime_and_a_key() {
    let story = Story::new().await;
    assert!(story.sender.key.starts_with("ak_") && has_checksum(&story.sender.key));
    let owner = story.actor(&story.home).await;
    let create = async |request| story.authority.create_machine(&owner, request).await;
    for (name, problem) in [
        (String::new(), Problem::TooShort(1)),
        ("é".repeat(256), Problem::TooLong(255)),
        (
            "a\0".to_owned(),
            Problem::WrongFormat("must not contain the character U+0000".into()),
        ),
    ] {
        assert_eq!(
            problem_of(create(named(&name)).await),
            ("name".to_owned(), problem)
        );
    }
    assert!(create(named(&"é".repeat(255))).await.is_ok());
    for ttl in [0, -1, i64::MIN, 315_360_001, i64::MAX] {
        let request = MachineRequest {
            default_token_ttl: Some(ttl.into()),
            ..named("x")
        };
        assert_eq!(problem_of(create(request).await).0, "default_token_ttl");
    }
    for ttl in [1, 315_360_000] {
        let request = MachineRequest {
            default_token_ttl: Some(ttl.into()),
            ..named("x")
        };
        assert!(create(request).await.is_ok());
    }
}

#[tokio::test]
async fn its_scopes_exist_are_each_there_once_and_150_at_most() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let create = async |scoped_machines: Vec<MachineId>| {
        let request = MachineRequest {
            scoped_machines: scoped_machines.iter().map(MachineId::to_string).collect(),
            ..named("x")
        };
        story.authority.create_machine(&owner, request).await
    };
    for missing in [nobody(), story.stranger.id] {
        assert_eq!(
            problem_of(create(vec![story.sender.id, missing]).await),
            ("scoped_machines".to_owned(), Problem::NotFound)
        );
    }
    let created = create(vec![story.sender.id, story.receiver.id, story.sender.id])
        .await
        .unwrap();
    let scoped = created.scoped_machines.iter();
    let scoped: Vec<_> = scoped.map(|machine| machine.id).collect();
    assert_eq!(scoped, [story.sender.id, story.receiver.id]);
    let mut many = Vec::new();
    for number in 0..151 {
        many.push(
            story
                .machine(&story.home, &number.to_string(), &[])
                .await
                .id,
        );
    }
    assert_eq!(
        problem_of(create(many.clone()).await),
        ("scoped_machines".to_owned(), Problem::TooMany(150))
    );
    let last = many.pop().unwrap();
    let popular = create(many).await.unwrap().id;
    let one_more = story.authority.create_scope(&owner, popular, last).await;
    assert_eq!(
        problem_of(one_more),
        ("scoped_machines".to_owned(), Problem::TooMany(150))
    );
}

#[tokio::test]
async fn a_scope_is_made_once_between_two_machines_and_removed_once() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (a, b) = (story.sender.id, story.receiver.id);
    let create = async |from, to| story.authority.create_scope(&owner, from, to).await;
    let delete = async |from, to| story.authority.delete_scope(&owner, from, to).await;
    assert!(matches!(create(a, b).await, Err(Error::Conflict(_))));
    assert_eq!(problem_of(create(a, a).await).0, "to_machine_id");
    for (from, to) in [(a, nobody()), (nobody(), a), (a, story.stranger.id)] {
        assert!(matches!(
            create(from, to).await,
            Err(Error::NotFound {
                noun: "machine",
                ..
            })
        ));
        assert!(matches!(
            delete(from, to).await,
            Err(Error::NotFound { .. })
        ));
    }
    assert!(
        create(b, a).await.is_ok(),
        "the other direction is another scope"
    );
    delete(a, b).await.unwrap();
    assert!(matches!(delete(a, b).await, Err(Error::NotFound { .. })));
    let machine = story.authority.machine(&owner, a).await.unwrap();
    assert!(machine.scoped_machines.is_empty());
    assert!(create(a, b).await.is_ok());
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_an_empty_one_nothing() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    story.clock.advance(MINUTE);
    let entries = story.logged(&story.home).await.len();
    let update = async |update| {
        story
            .authority
            .update_machine(&owner, story.sender.id, update)
            .await
    };
    let same = update(MachineUpdate::default()).await.unwrap();
    assert_eq!(same.updated_at.as_millis(), START);
    assert_eq!(story.logged(&story.home).await.len(), entries);
    let renamed = update(MachineUpdate {
        name: Some("poster".into()),
        ..MachineUpdate::default()
    })
    .await
    .unwrap();
    assert_eq!(renamed.name, "poster");
    assert_eq!(renamed.default_token_ttl, 3600);
    assert_eq!(renamed.updated_at.as_millis(), START + MINUTE);
    update(MachineUpdate {
        default_token_ttl: Some(60.into()),
        ..MachineUpdate::default()
    })
    .await
    .unwrap();
    let issued = story.issue(&story.sender, opaque()).await.unwrap();
    assert_eq!(
        issued.body.expiration.unwrap().as_millis(),
        START + 2 * MINUTE
    );
    let unknown = story
        .authority
        .update_machine(&owner, nobody(), MachineUpdate::default())
        .await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_rotated_key_works_beside_the_new_one_for_its_time() {
    let story = Story::new().await;
    let old = story.sender.key.clone();
    let (token, _) = story.token(&story.sender, opaque()).await;
    let new = story.rotate(60).await;
    story.clock.advance(MINUTE - 1);
    assert!(story.is_key(&old).await && story.is_key(&new).await);
    story.clock.advance(1);
    assert!(!story.is_key(&old).await && story.is_key(&new).await);
    let newest = story.rotate(0).await;
    assert!(!story.is_key(&new).await && story.is_key(&newest).await);
    assert!(
        story.verify(&story.receiver.key, &token).await.is_ok(),
        "tokens do not care"
    );
    assert_eq!(story.reveal().await.unwrap(), newest);
}

#[tokio::test]
async fn a_further_rotation_shortens_the_time_of_older_keys_and_never_lengthens_it() {
    let story = Story::new().await;
    let first = story.sender.key.clone();
    let second = story.rotate(600).await;
    let third = story.rotate(60).await;
    story.rotate(3600).await;
    story.clock.advance(MINUTE);
    assert!(!story.is_key(&first).await && !story.is_key(&second).await);
    assert!(story.is_key(&third).await);
    story.rotate(0).await;
    assert!(!story.is_key(&third).await);
}

#[tokio::test]
async fn five_keys_live_at_once_and_the_oldest_makes_room() {
    let story = Story::new().await;
    let mut keys = vec![story.sender.key.clone()];
    for _ in 0..5 {
        keys.push(story.rotate(28_800).await);
    }
    assert!(!story.is_key(&keys[0]).await);
    for key in &keys[1..] {
        assert!(story.is_key(key).await);
    }
    story.clock.advance(8 * HOUR);
    for key in &keys[..5] {
        assert!(!story.is_key(key).await);
    }
    assert!(story.is_key(&keys[5]).await);
}

#[tokio::test]
async fn the_time_of_a_rotation_is_between_nothing_and_eight_hours() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    for ttl in [-1, 28_801, i64::MIN, i64::MAX] {
        let refused = story
            .authority
            .rotate_machine_key(&owner, story.sender.id, ttl)
            .await;
        assert_eq!(problem_of(refused).0, "previous_token_ttl", "{ttl}");
    }
    let unknown = story
        .authority
        .rotate_machine_key(&owner, nobody(), 0)
        .await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    assert!(story.is_key(&story.sender.key).await);
}

#[tokio::test]
async fn a_reveal_shows_the_key_and_is_in_the_log() {
    let story = Story::new().await;
    assert_eq!(story.reveal().await.unwrap(), story.sender.key);
    let entry = story.log(&story.home).await.pop().unwrap();
    assert_eq!(entry.kind.as_str(), "machine_key.revealed");
    assert_eq!(entry.subject, story.sender.id.to_string());
    assert_eq!(entry.actor, story.actor(&story.home).await.name());
    let owner = story.actor(&story.home).await;
    let unknown = story.authority.reveal_machine_key(&owner, nobody()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    assert_eq!(
        story.log(&story.home).await.len(),
        usize::try_from(entry.sequence).unwrap()
    );
}

#[tokio::test]
async fn a_reveal_is_judged_by_what_its_own_transaction_read() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    // A second look would see what a rotation left that came in between.
    for operation in ["caller", "verification", "machine_with_scopes"] {
        story.store.fail_all(operation, Fault::Before);
    }
    let revealed = story.authority.reveal_machine_key(&owner, story.sender.id);
    assert_eq!(secret_of(revealed.await.unwrap()), story.sender.key);
}

#[tokio::test]
async fn ten_secrets_a_minute_are_shown_for_each_instance() {
    let story = Story::new().await;
    for _ in 0..10 {
        story.reveal().await.unwrap();
    }
    story.clock.advance(30 * SECOND);
    let limited = story.reveal().await;
    assert!(
        matches!(
            limited,
            Err(Error::RateLimited {
                retry_after_seconds: 30
            })
        ),
        "{limited:?}"
    );
    let abroad = story.actor(&story.abroad).await;
    let other = story
        .authority
        .reveal_machine_key(&abroad, story.stranger.id)
        .await;
    assert!(other.is_ok());
    story.clock.advance(30 * SECOND);
    assert!(story.reveal().await.is_ok());
}

#[tokio::test]
async fn an_instance_that_reveals_nothing_erases_what_it_could() {
    let story = Story::new().await;
    story
        .set(&story.home, json!({"secret_reveal": false}))
        .await;
    assert!(matches!(story.reveal().await, Err(Error::Forbidden(_))));
    story.set(&story.home, json!({"secret_reveal": true})).await;
    assert!(
        matches!(story.reveal().await, Err(Error::Forbidden(_))),
        "it was erased"
    );
    assert!(story.is_key(&story.sender.key).await, "it works as before");
    assert!(
        !story
            .logged(&story.home)
            .await
            .contains(&"machine_key.revealed")
    );
    let new = story.rotate(0).await;
    assert_eq!(story.reveal().await.unwrap(), new);
}

#[tokio::test]
async fn deletion_kills_keys_scopes_and_tokens_at_once() {
    let story = Story::new().await;
    let caller = story.machine(&story.home, "caller", &[&story.sender]).await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    let old = story.sender.key.clone();
    let new = story.rotate(600).await;
    let owner = story.actor(&story.home).await;
    story
        .authority
        .delete_machine(&owner, story.sender.id)
        .await
        .unwrap();
    assert!(!story.is_key(&old).await && !story.is_key(&new).await);
    assert!(story.verify(&story.home, &token).await.is_err());
    let caller = story.authority.machine(&owner, caller.id).await.unwrap();
    assert!(caller.scoped_machines.is_empty());
    let sender = story.sender.id;
    for outcome in [
        story.authority.machine(&owner, sender).await.map(drop),
        story
            .authority
            .delete_machine(&owner, sender)
            .await
            .map(drop),
    ] {
        assert!(matches!(outcome, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_credential_counts_only_where_its_kind_is_wanted() {
    let story = Story::new().await;
    let (token, id) = story.token(&story.sender, opaque()).await;
    let long = format!("ak_{}", "x".repeat(300));
    let name = |outcome: Result<countersign_authority::Actor, Error>| match outcome {
        Ok(_) => "welcome",
        Err(Error::InstanceKeyInvalid) => "no instance key",
        Err(Error::MachineKeyInvalid) => "no machine key",
        Err(error) => panic!("{error}"),
    };
    let mut table = String::new();
    for (what, credential) in [
        ("sk", story.home.as_str()),
        ("ak", &story.sender.key),
        ("unknown sk", "sk_test_x"),
        ("unknown ak", "ak_x"),
        ("long ak", &long),
        ("token", &token),
        ("id", &id.to_string()),
        ("nothing", ""),
        ("sk in capitals", &story.home.to_uppercase()),
    ] {
        let mut answers = Vec::new();
        for accepts in [Accepts::Instance, Accepts::Machine, Accepts::Any] {
            answers.push(name(
                story.authority.authenticate(credential, accepts).await,
            ));
        }
        table += &format!("{what}: {}\n", answers.join(", "));
    }
    assert_eq!(
        table,
        "sk: welcome, no machine key, welcome\n\
         ak: no instance key, welcome, welcome\n\
         unknown sk: no instance key, no machine key, no instance key\n\
         unknown ak: no instance key, no machine key, no machine key\n\
         long ak: no instance key, no machine key, no machine key\n\
         token: no instance key, no machine key, no instance key\n\
         id: no instance key, no machine key, no instance key\n\
         nothing: no instance key, no machine key, no instance key\n\
         sk in capitals: no instance key, no machine key, no instance key\n"
    );
}

/// Reveals the sender's key, then rotates it. Returns what the store held of the key before.
async fn rotated(story: &Story) -> SealedKey {
    let seen = Arc::new(Mutex::new(None));
    let spy = Arc::clone(&seen);
    let look = move |answer: &mut Option<Option<SealedKey>>| {
        *spy.lock().unwrap() = answer.clone().flatten();
    };
    story.store.alter("reveal_machine_key", look);
    assert_eq!(story.reveal().await.unwrap(), story.sender.key);
    story.store.heal();
    story.rotate(60).await;
    seen.lock().unwrap().take().unwrap()
}

/// Makes the store show another key than the newest.
fn plant(story: &Story, change: impl Fn(&mut SealedKey) + Send + Sync + 'static) {
    let plant = move |answer: &mut Option<Option<SealedKey>>| {
        change(answer.as_mut().unwrap().as_mut().unwrap());
    };
    story.store.alter("reveal_machine_key", plant);
}

async fn assert_damaged(story: &Story, part: &str) {
    let refused = story.reveal().await;
    assert!(
        matches!(&refused, Err(Error::Damaged(what)) if what == part),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_older_key_in_the_place_of_the_newest_is_not_shown() {
    let story = Story::new().await;
    let older = rotated(&story).await;
    // The newest is gone, and the older one has what its row once held.
    let expires_at = story.authority.now().plus_millis(MINUTE);
    plant(&story, move |shown| {
        *shown = SealedKey {
            expires_at,
            ..older.clone()
        };
    });
    assert_damaged(&story, "a machine key").await;
}

#[tokio::test]
async fn a_sealed_key_opens_in_its_own_row_only() {
    let story = Story::new().await;
    let older = rotated(&story).await;
    // Instance, machine and purpose are the same; the row is not.
    plant(&story, move |shown| shown.sealed = older.sealed.clone());
    assert_damaged(&story, "a sealed value").await;
}
