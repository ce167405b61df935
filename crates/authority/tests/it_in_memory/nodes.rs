//! Two nodes on the same data: what one does counts for the other at once, and what each remembers follows the change log.

use std::sync::Arc;
use std::time::Duration;

use countersign_authority::{Accepts, Error, Refusal};
use countersign_protocol::ids::{SigningKeyId, TokenId};
use countersign_store::{Changes, Store as _};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::faulty::Fault;
use crate::support::sources::{DAY, HOUR, MINUTE, SeededRandom};
use crate::support::{
    Story, World, header_of, jwt, lasting, opaque, options, refusal_of, secret_of, string_of,
};

impl World {
    /// A further node on the same data, by the same clock.
    async fn second_node(&self) -> Self {
        let (data, store) = (self.data.share(), self.data.open());
        let random = Arc::new(SeededRandom::new(9));
        Self::open(data, store, Arc::clone(&self.clock), random, options()).await
    }

    /// Follows the change log until the test ends.
    fn follow(&self) -> Following {
        let authority = Arc::clone(&self.authority);
        Following(tokio::spawn(async move { authority.follow().await }))
    }

    /// The key ids that receivers see here.
    async fn shown(&self, instance_key: &str) -> Vec<SigningKeyId> {
        let owner = self.actor(instance_key).await;
        let keys = self.authority.jwks(&owner).unwrap().keys;
        keys.iter().map(|key| key.kid).collect()
    }

    /// Waits until receivers see these key ids here.
    async fn until_shown(&self, instance_key: &str, expected: &[SigningKeyId]) {
        let shown = async {
            while self.shown(instance_key).await != expected {
                tokio::task::yield_now().await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
        shown.expect("the node learns of the change");
    }
}

/// A task that ends with the test.
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn kid_of(token: &str) -> SigningKeyId {
    header_of(token)["kid"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_node_that_follows_uses_and_refuses_what_another_node_publishes_activates_and_deletes() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let _following = story.follow();
    let owner = other.actor(&story.home).await;
    let first = owner.instance_id().first_signing_key();
    let (old, _) = story.token(&story.sender, lasting(7200.0, jwt())).await;
    assert_eq!(kid_of(&old), first);

    let second = other.authority.rotate_signing_key(&owner, false).await;
    let second = second.unwrap().kid;
    story.until_shown(&story.home, &[first, second]).await;
    let (token, _) = story.token(&story.sender, jwt()).await;
    assert_eq!(
        kid_of(&token),
        first,
        "the new key is published and no more"
    );

    other
        .authority
        .rotate_signing_key(&owner, true)
        .await
        .unwrap();
    let signs = async {
        while kid_of(&story.token(&story.sender, jwt()).await.0) != second {
            tokio::task::yield_now().await;
        }
    };
    let signs = tokio::time::timeout(Duration::from_secs(60), signs).await;
    signs.expect("the node signs with the new key");
    assert!(story.verify(&story.receiver.key, &old).await.is_ok());

    other
        .authority
        .delete_signing_key(&owner, first)
        .await
        .unwrap();
    let refused = refusal_of(story.verify(&story.home, &old).await);
    assert_eq!(refused, Some((Refusal::Unknown, true)));
    story.until_shown(&story.home, &[second]).await;
    let (token, _) = story.token(&story.sender, jwt()).await;
    assert!(other.verify(&story.receiver.key, &token).await.is_ok());
}

#[tokio::test]
async fn a_node_that_follows_knows_the_instances_of_another_node() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let _following = story.follow();
    for name in ["third", "fourth"] {
        let key = other.instance(name).await;
        let kid = other.instance_id(&key).await.first_signing_key();
        let known = async {
            let owner = story.actor(&key).await;
            while story.authority.jwks(&owner).is_err() {
                tokio::task::yield_now().await;
            }
        };
        let known = tokio::time::timeout(Duration::from_secs(60), known).await;
        known.expect("the node learns of the instance");
        assert_eq!(story.shown(&key).await, [kid]);
    }
}

#[tokio::test]
async fn a_node_works_with_what_another_node_made_before_it_has_followed() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let owner = other.actor(&story.home).await;
    let rotated = other.authority.rotate_signing_key(&owner, true).await;
    let second = rotated.unwrap().kid;
    // Signed by a key that this node has never seen.
    for key in [&story.receiver.key, &story.home] {
        let (token, _) = other.token(&story.sender, jwt()).await;
        assert_eq!(kid_of(&token), second);
        assert!(story.verify(key, &token).await.is_ok());
        let (token, _) = other.token(&story.sender, jwt()).await;
        assert!(story.authority.verify_presented(key, &token).await.is_ok());
        assert!(story.own_token(&token).await.is_ok());
    }
    // Instances that this node has never seen.
    let key = other.instance("third").await;
    let name = other.instance_id(&key).await.to_string();
    let keys = story.authority.public_jwks(Some(&name)).await.unwrap();
    assert_eq!(keys.keys.len(), 1);
    let key = other.instance("fourth").await;
    let receiver = other.machine(&key, "receiver", &[]).await;
    let sender = other.machine(&key, "sender", &[&receiver]).await;
    for request in [opaque(), jwt()] {
        let (token, _) = story.token(&sender, request).await;
        for node in [&story.world, &other] {
            assert!(node.verify(&receiver.key, &token).await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_node_signs_with_no_key_that_another_node_has_deleted() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let owner = other.actor(&story.home).await;
    let first = owner.instance_id().first_signing_key();
    let rotated = other.authority.rotate_signing_key(&owner, true).await;
    let second = rotated.unwrap().kid;
    other
        .authority
        .delete_signing_key(&owner, first)
        .await
        .unwrap();
    // This node has followed nothing, and the store refuses what the old key signed.
    assert_eq!(story.shown(&story.home).await, [first]);
    let issued = story.issue(&story.sender, jwt()).await.unwrap();
    assert_eq!(kid_of(string_of(&issued)), second);
    for node in [&story.world, &other] {
        let verified = node.verify(&story.receiver.key, string_of(&issued)).await;
        assert!(verified.is_ok());
    }
}

#[tokio::test]
async fn a_history_that_was_replaced_is_read_anew() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let _following = story.follow();
    let owner = other.actor(&story.home).await;
    let mut expected = vec![owner.instance_id().first_signing_key()];
    // No cursor is known any more.
    story
        .store
        .alter("list_changes", |changes| *changes = Changes::UnknownCursor);
    for _ in 0..2 {
        let rotated = other.authority.rotate_signing_key(&owner, true).await;
        expected.push(rotated.unwrap().kid);
        story.until_shown(&story.home, &expected).await;
    }
    // The new history is followed as the old one was.
    story.store.heal();
    let rotated = other.authority.rotate_signing_key(&owner, true).await;
    expected.push(rotated.unwrap().kid);
    story.until_shown(&story.home, &expected).await;
}

#[tokio::test]
async fn a_node_goes_on_following_when_the_store_is_back() {
    for operation in [
        "wait_for_changes",
        "list_instances",
        "log_head",
        "list_changes",
        "list_signing_keys",
    ] {
        let story = Story::new().await;
        let other = story.second_node().await;
        let _following = story.follow();
        let owner = other.actor(&story.home).await;
        let first = owner.instance_id().first_signing_key();
        let second = other.authority.rotate_signing_key(&owner, false).await;
        let second = second.unwrap().kid;
        story.until_shown(&story.home, &[first, second]).await;
        story.store.fail_all(operation, Fault::Before);
        other
            .authority
            .rotate_signing_key(&owner, true)
            .await
            .unwrap();
        other
            .authority
            .delete_signing_key(&owner, first)
            .await
            .unwrap();
        let failed = async {
            while story.store.failed() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let failed = tokio::time::timeout(Duration::from_secs(60), failed).await;
        failed.expect("the node tries to follow");
        story.store.heal();
        story.until_shown(&story.home, &[second]).await;
    }
}

#[tokio::test]
async fn what_one_node_does_counts_for_the_other_at_once() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let owner = other.actor(&story.home).await;
    let (sender, receiver) = (story.sender.id, story.receiver.id);
    let mut tokens = Vec::new();
    for request in [opaque(), jwt()] {
        tokens.push(story.token(&story.sender, request).await);
    }
    for (token, id) in &tokens {
        assert!(other.verify(&story.receiver.key, token).await.is_ok());
        other.authority.revoke(&owner, *id, None).await.unwrap();
        let refused = refusal_of(story.verify(&story.receiver.key, token).await);
        assert_eq!(refused, Some((Refusal::Revoked, true)));
    }
    let before = [
        story.token(&story.sender, opaque()).await.0,
        story.token(&story.sender, jwt()).await.0,
    ];
    let cut_off = other
        .authority
        .end_tokens(&owner, Some(sender))
        .await
        .unwrap();
    for token in &before {
        let refused = refusal_of(story.verify(&story.receiver.key, token).await);
        assert_eq!(refused, Some((Refusal::Revoked, true)));
    }
    // The node whose clock knows nothing of the cut-off issues good tokens.
    for request in [opaque(), jwt()] {
        let issued = story.issue(&story.sender, request).await.unwrap();
        assert!(issued.body.created_at >= cut_off);
        let verified = other.verify(&story.receiver.key, string_of(&issued)).await;
        assert!(verified.is_ok());
    }
    other
        .authority
        .delete_scope(&owner, sender, receiver)
        .await
        .unwrap();
    let (token, _) = story.token(&story.sender, opaque()).await;
    let refused = refusal_of(story.verify(&story.receiver.key, &token).await);
    assert_eq!(refused, Some((Refusal::NotInScope, false)));
    other.set(&story.home, json!({"max_jwt_ttl": 60})).await;
    assert!(
        story
            .issue(&story.sender, lasting(61.0, jwt()))
            .await
            .is_err()
    );
    let rotated = other.authority.rotate_machine_key(&owner, sender, 0).await;
    let accepts = Accepts::Machine;
    let old = story
        .authority
        .authenticate(&story.sender.key, accepts)
        .await;
    assert!(matches!(old, Err(Error::MachineKeyInvalid)));
    let new = secret_of(rotated.unwrap());
    assert!(story.authority.authenticate(&new, accepts).await.is_ok());
    other
        .authority
        .delete_machine(&owner, sender)
        .await
        .unwrap();
    let gone = story.authority.authenticate(&new, accepts).await;
    assert!(matches!(gone, Err(Error::MachineKeyInvalid)));
}

#[tokio::test]
async fn locators_of_two_nodes_differ_in_the_node_bits() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let node_of = |id: TokenId| (id.locator().get() >> 12) & 0x3ff;
    let mut nodes = Vec::new();
    let mut locators = Vec::new();
    for world in [&story.world, &other] {
        let node = u64::from(world.store.node().get());
        for request in [opaque(), opaque(), jwt()] {
            let (_, id) = world.token(&story.sender, request).await;
            assert_eq!(node_of(id), node);
            locators.push(id.locator());
        }
        nodes.push(node);
    }
    assert_ne!(nodes[0], nodes[1]);
    locators.sort_unstable();
    locators.dedup();
    assert_eq!(locators.len(), 6);
}

#[tokio::test]
async fn two_nodes_that_create_the_first_instance_make_one_default() {
    let world = World::new().await;
    let other = world.second_node().await;
    let create = async |world: &World, name| {
        let created = world
            .authority
            .create_instance(&world.operator, name, false);
        created.await.unwrap()
    };
    // Both have seen that there is no instance.
    for world in [&world, &other] {
        world.store.fail_all("insert_instance", Fault::Wait);
    }
    let both_wait = async {
        for world in [&world, &other] {
            world.until_waiting(1).await;
        }
        world.store.heal();
        other.store.heal();
    };
    let (one, two, ()) = tokio::join!(create(&world, "one"), create(&other, "two"), both_wait);
    assert_ne!(one.instance.is_default, two.instance.is_default);
    for created in [one, two] {
        let key = created.key.expose();
        for world in [&world, &other] {
            assert_eq!(world.instance_id(key).await, created.instance.id);
        }
    }
}

#[tokio::test]
async fn two_nodes_that_rotate_at_one_time_publish_one_key() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let rotate = async |world: &World| {
        let owner = world.actor(&story.home).await;
        world.authority.rotate_signing_key(&owner, false).await
    };
    for world in [&story.world, &other] {
        world.store.fail_all("insert_signing_key", Fault::Wait);
    }
    let both_wait = async {
        for world in [&story.world, &other] {
            world.until_waiting(1).await;
        }
        story.store.heal();
        other.store.heal();
    };
    let (one, two, ()) = tokio::join!(rotate(&story), rotate(&other), both_wait);
    let outcomes = [one, two];
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::Conflict(_))));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
    let owner = other.actor(&story.home).await;
    let keys = other.authority.signing_keys(&owner).await.unwrap();
    let expected: Vec<_> = keys.iter().map(|key| key.kid).collect();
    assert_eq!(expected.len(), 2);
    // Both show what was published: they have looked before they answered.
    for world in [&story.world, &other] {
        assert_eq!(world.shown(&story.home).await, expected);
    }
}

#[tokio::test]
async fn maintenance_on_two_nodes_rotates_once() {
    let story = Story::new().await;
    let other = story.second_node().await;
    let owner = story.actor(&story.home).await;
    for (millis, count) in [(90 * DAY - HOUR, 2), (HOUR, 2), (2 * MINUTE, 1)] {
        story.clock.advance(millis);
        for world in [&story.world, &other] {
            world.authority.maintain().await.unwrap();
        }
        let keys = story.authority.signing_keys(&owner).await.unwrap();
        let expected: Vec<_> = keys.iter().map(|key| key.kid).collect();
        assert_eq!(expected.len(), count);
        // Also the node that came first is right at its next round at the latest.
        story.clock.advance(MINUTE);
        story.authority.maintain().await.unwrap();
        for world in [&story.world, &other] {
            assert_eq!(world.shown(&story.home).await, expected);
        }
    }
}
