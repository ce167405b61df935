//! The life of a signing key, with the clock moved: published, active, verify-only, deleted.

use std::borrow::Cow;
use std::time::Duration;

use countersign_authority::{Discovery, Error, Refusal};
use countersign_protocol::ids::SigningKeyId;
use countersign_store::{SealedBytes, SigningKeyRow};
use serde_json::json;

use crate::support::faulty::Fault;
use crate::support::sources::{DAY, HOUR, MINUTE, SECOND};
use crate::support::{Story, World, header_of, jwt, lasting, refusal_of};

impl Story {
    /// The signing keys' states, oldest first.
    async fn states(&self) -> Vec<Cow<'static, str>> {
        let owner = self.actor(&self.home).await;
        let keys = self.authority.signing_keys(&owner).await.unwrap();
        keys.into_iter().map(|key| key.state).collect()
    }

    /// The key ids that receivers see.
    async fn shown(&self) -> Vec<String> {
        let owner = self.actor(&self.home).await;
        let keys = self.authority.jwks(&owner).unwrap().keys;
        keys.iter().map(|key| key.kid.to_string()).collect()
    }

    /// A new JWT and the key that signed it.
    async fn signed(&self, seconds: f64) -> (String, String) {
        let (token, _) = self.token(&self.sender, lasting(seconds, jwt())).await;
        let kid = header_of(&token)["kid"].as_str().unwrap().to_owned();
        (token, kid)
    }

    async fn rotate_signing(&self, is_immediate: bool) -> Result<String, Error> {
        let owner = self.actor(&self.home).await;
        let rotated = self
            .authority
            .rotate_signing_key(&owner, is_immediate)
            .await?;
        Ok(rotated.kid.to_string())
    }

    async fn pass(&self, millis: i64) {
        self.clock.advance(millis);
        self.authority.maintain().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_is_shown_for_an_hour_then_signs_then_verifies_then_goes() {
    let story = Story::new().await;
    let (token, first) = story.signed(2.0 * 3600.0).await;
    let second = story.rotate_signing(false).await.unwrap();
    assert!(second.starts_with("ins_"));
    assert_eq!(story.shown().await, [first.clone(), second.clone()]);
    assert_eq!(story.states().await, ["active", "published"]);

    story.pass(HOUR - MINUTE).await;
    assert_eq!(
        story.signed(60.0).await.1,
        first,
        "not before receivers know it"
    );
    story.pass(MINUTE).await;
    assert_eq!(story.states().await, ["verify_only", "active"]);
    assert_eq!(story.signed(60.0).await.1, second);
    assert_eq!(story.shown().await, [first.clone(), second.clone()]);

    // The first key's last JWT is over at two hours, its grace a minute later.
    story.pass(HOUR).await;
    assert!(
        story.verify(&story.receiver.key, &token).await.is_ok(),
        "within the leeway"
    );
    story.pass(MINUTE).await;
    assert_eq!(story.shown().await, [first, second.clone()]);
    story.pass(MINUTE).await;
    assert_eq!(story.shown().await, std::slice::from_ref(&second));
    let refused = refusal_of(story.verify(&story.home, &token).await);
    assert_eq!(refused, Some((Refusal::Unknown, true)));

    // All of it survives a restart.
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    assert_eq!(story.shown().await, std::slice::from_ref(&second));
    assert_eq!(story.signed(60.0).await.1, second);
}

#[tokio::test]
async fn a_key_that_never_signed_goes_a_minute_after_it_was_replaced() {
    let story = Story::new().await;
    story.rotate_signing(true).await.unwrap();
    assert_eq!(story.states().await, ["verify_only", "active"]);
    story.pass(MINUTE).await;
    assert_eq!(story.states().await, ["verify_only", "active"]);
    story.pass(MINUTE).await;
    assert_eq!(story.states().await, ["active"]);
}

#[tokio::test]
async fn keys_rotate_by_themselves_after_ninety_days() {
    let story = Story::new().await;
    let (_, first) = story.signed(60.0).await;
    story.pass(90 * DAY - HOUR - MINUTE).await;
    assert_eq!(story.states().await, ["active"]);
    story.pass(MINUTE).await;
    assert_eq!(story.states().await, ["active", "published"]);
    assert_eq!(story.signed(60.0).await.1, first);
    story.pass(HOUR).await;
    assert_eq!(story.states().await, ["verify_only", "active"]);
    assert_ne!(story.signed(60.0).await.1, first);
    story.pass(2 * MINUTE + SECOND).await;
    assert_eq!(story.states().await, ["active"]);
    // And again, in every instance.
    story.pass(90 * DAY - HOUR).await;
    let abroad = story.actor(&story.abroad).await;
    for owner in [story.actor(&story.home).await, abroad] {
        let keys = story.authority.signing_keys(&owner).await.unwrap();
        assert!(keys.iter().any(|key| key.state == "published"), "{keys:?}");
    }
}

#[tokio::test]
async fn an_instance_with_a_damaged_key_keeps_no_other_from_rotation() {
    let story = Story::new().await;
    // The older instance, whose turn comes first.
    let damaged = story.instance_id(&story.home).await.first_signing_key();
    let damage = move |keys: &mut Vec<SigningKeyRow>| {
        for key in keys.iter_mut().filter(|key| key.id == damaged) {
            key.sealed = SealedBytes(vec![1]);
        }
    };
    story.store.alter("list_signing_keys", damage);
    let abroad = story.actor(&story.abroad).await;
    let states = async || -> Vec<_> {
        let keys = story.authority.signing_keys(&abroad).await.unwrap();
        keys.into_iter().map(|key| key.state).collect()
    };
    for (millis, expected) in [
        (90 * DAY - HOUR, &["active", "published"][..]),
        (HOUR, &["verify_only", "active"]),
    ] {
        story.clock.advance(millis);
        let outcome = story.authority.maintain().await;
        assert!(matches!(outcome, Err(Error::Damaged(_))), "{outcome:?}");
        assert_eq!(states().await, expected);
    }
    // By then the damaged key is not needed any more.
    story.pass(2 * MINUTE).await;
    assert_eq!(states().await, ["active"]);
    assert_eq!(story.states().await, ["active"]);
}

#[tokio::test]
async fn one_key_waits_at_a_time_and_may_be_used_at_once() {
    let story = Story::new().await;
    let (token, first) = story.signed(3600.0).await;
    let second = story.rotate_signing(false).await.unwrap();
    let refused = story.rotate_signing(false).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    assert_eq!(story.rotate_signing(true).await.unwrap(), second);
    assert_eq!(story.signed(60.0).await.1, second);
    assert_eq!(story.shown().await, [first, second]);
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn concurrent_rotations_publish_one_key() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let rotations = [(); 40].map(|()| {
        let (authority, owner) = (story.authority.clone(), owner.clone());
        tokio::spawn(async move { authority.rotate_signing_key(&owner, false).await })
    });
    let mut outcomes = Vec::new();
    for rotation in rotations {
        outcomes.push(rotation.await.unwrap());
    }
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::Conflict(_))));
    assert_eq!(refused.count(), 39, "{outcomes:?}");
    assert_eq!(story.states().await, ["active", "published"]);
}

#[tokio::test]
async fn a_deleted_key_takes_its_jwts_with_it_and_the_active_one_stays() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (token, first) = story.signed(3600.0).await;
    let first_id: SigningKeyId = first.parse().unwrap();
    let active = story.authority.delete_signing_key(&owner, first_id).await;
    assert!(matches!(active, Err(Error::Conflict(_))));
    let second = story.rotate_signing(true).await.unwrap();
    story
        .authority
        .delete_signing_key(&owner, first_id)
        .await
        .unwrap();
    assert_eq!(story.shown().await, [second]);
    let refused = refusal_of(story.verify(&story.receiver.key, &token).await);
    assert_eq!(refused, Some((Refusal::Unknown, false)));
    let again = story.authority.delete_signing_key(&owner, first_id).await;
    assert!(matches!(again, Err(Error::NotFound { .. })));
    assert_eq!(
        story.logged(&story.home).await[3..],
        [
            "signing_key.published",
            "signing_key.activated",
            "signing_key.deleted"
        ]
    );
}

#[tokio::test]
async fn a_jwk_is_an_rsa_key_that_every_sdk_reads() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let instance = owner.instance_id();
    let keys = story.authority.jwks(&owner).unwrap().keys;
    let key = serde_json::to_value(&keys[0]).unwrap();
    assert_eq!(
        (
            &key["use"],
            &key["kty"],
            &key["alg"],
            &key["e"],
            &key["kid"]
        ),
        (
            &"sig".into(),
            &"RSA".into(),
            &"RS256".into(),
            &"AQAB".into(),
            &instance.as_str().into()
        )
    );
    assert_eq!(
        key["n"].as_str().unwrap().len(),
        342,
        "2048 bits without padding"
    );
    assert_eq!(key.as_object().unwrap().len(), 6, "nothing private");
}

#[tokio::test]
async fn public_keys_are_found_by_the_id_of_an_instance_and_by_default() {
    let story = Story::new().await;
    let authority = &story.authority;
    let abroad = story.instance_id(&story.abroad).await.to_string();
    let at_home = "https://auth.example.com".to_owned();
    for (key, name, issuer) in [
        (&story.home, None, at_home.clone()),
        (
            &story.abroad,
            Some(abroad.as_str()),
            format!("{at_home}/{abroad}"),
        ),
    ] {
        let owner = story.actor(key).await;
        let keys = authority.public_jwks(name).await.unwrap();
        assert_eq!(keys, authority.jwks(&owner).unwrap());
        let found = authority.discovery(name).await.unwrap();
        assert_eq!(found.jwks_uri, format!("{issuer}/.well-known/jwks.json"));
        assert_eq!(found.issuer, issuer);
        let info = authority.instance(&owner).await.unwrap();
        assert_eq!((info.issuer, info.is_default), (issuer, name.is_none()));
    }
    story
        .set(
            &story.abroad,
            json!({"issuer": "https://other.example.com"}),
        )
        .await;
    let found = authority.discovery(Some(&abroad)).await.unwrap();
    let expected = Discovery {
        issuer: "https://other.example.com".to_owned(),
        jwks_uri: "https://other.example.com/.well-known/jwks.json".to_owned(),
    };
    assert_eq!(found, expected);
    for unknown in [
        "ins_000000000000000000000000001",
        "",
        "ins_x",
        story.home.as_str(),
    ] {
        for refused in [
            authority.public_jwks(Some(unknown)).await.err(),
            authority.discovery(Some(unknown)).await.err(),
        ] {
            let Some(Error::NotFound { noun, id }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((noun, id.as_str()), ("instance", "of this id"));
        }
    }
    let world = World::new().await;
    let refused = world.authority.public_jwks(None).await;
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_key_is_deleted_from_memory_too_where_the_caller_goes_away() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let old = owner.instance_id().first_signing_key();
    let (token, _) = story.token(&story.sender, lasting(7200.0, jwt())).await;
    story.rotate_signing(true).await.unwrap();
    assert_eq!(story.shown().await.len(), 2);
    // The request is given up after it has reached the store, and before the store has answered.
    story.store.fail_all("delete_signing_key", Fault::Wait);
    let deleting = {
        let (authority, owner) = (story.authority.clone(), owner.clone());
        tokio::spawn(async move { authority.delete_signing_key(&owner, old).await })
    };
    story.until_waiting(1).await;
    deleting.abort();
    assert!(deleting.await.unwrap_err().is_cancelled());
    story.store.heal();
    let gone = async {
        while story.shown().await.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("the key is deleted, and soon");
    let refused = refusal_of(story.verify(&story.home, &token).await);
    assert_eq!(refused, Some((Refusal::Unknown, true)));
}

#[tokio::test]
async fn keys_that_are_not_used_any_more_make_room_for_a_new_one() {
    let story = Story::new().await;
    // As many as there may be, each of which signed a JWT of 100 days.
    for _ in 0..15 {
        story.signed(100.0 * 86400.0).await;
        story.rotate_signing(true).await.unwrap();
    }
    assert_eq!(story.states().await.len(), 16);
    story.clock.advance(90 * DAY);
    assert!(
        story.authority.maintain().await.is_err(),
        "no place is free"
    );
    story.clock.advance(60 * DAY);
    story.authority.maintain().await.unwrap();
    // The one that signed until now, and the one that is to follow.
    assert_eq!(story.states().await.len(), 2);
}
