//! What the records of the change log say: who did it, and the ids and values of everything that a reader needs.

use countersign_authority::{Actor, MachineUpdate, UpdateRequest};
use countersign_protocol::change::{Log, TokenFacts};
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::time::Timestamp;
use countersign_store::{After, Changes, Store as _};
use serde_json::{Value, json};

use crate::support::sources::{DAY, HOUR, MINUTE, SECOND, START};
use crate::support::{Story, claiming, claims, jwt, opaque, pooled, revoke_it};

impl Story {
    /// The last record of the first instance's log, without its number and time.
    async fn last_record(&self) -> Value {
        let log = self.log(&self.home).await;
        record(log.last().unwrap())
    }

    /// What a record says about a token of the sender, which may call the receiver.
    fn facts(&self, id: TokenId, format: &str, expires_at: Option<Timestamp>) -> Value {
        json!({
            "token_id": id,
            "subject": self.sender.id,
            "receivers": [self.receiver.id],
            "names_receivers": true,
            "format": format,
            "expires_at": expires_at,
        })
    }
}

fn record(change: &countersign_protocol::body::Change) -> Value {
    json!({
        "actor": change.actor,
        "kind": change.kind.as_str(),
        "subject": change.subject,
        "detail": change.detail,
    })
}

fn expected(actor: &str, kind: &str, subject: &str, detail: &Value) -> Value {
    json!({"actor": actor, "kind": kind, "subject": subject, "detail": detail})
}

/// The id of a machine's key, from the record of its creation or rotation.
async fn key_of(story: &Story, machine: MachineId) -> Value {
    let log = story.log(&story.home).await;
    let made = log.iter().rfind(|change| {
        let makes_a_key = ["machine.created", "machine_key.rotated"];
        change.subject == machine.as_str() && makes_a_key.contains(&change.kind.as_str())
    });
    made.unwrap().detail["key_id"].clone()
}

#[tokio::test]
async fn the_record_of_an_instance_names_its_first_keys() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let instance = owner.instance_id();
    let keys = story.authority.instance_keys(&owner).await.unwrap();
    let log = story.log(&story.home).await;
    let detail = json!({
        "instance_id": instance,
        "name": "home",
        "key_id": keys[0].id,
        "kid": instance.first_signing_key(),
    });
    let created = expected("operator", "instance.created", instance.as_str(), &detail);
    assert_eq!(record(&log[0]), created);
    assert_eq!((log[0].sequence, log[0].at.as_millis()), (1, START));
    // The authority's own log begins with the making of its data keys.
    let own = story
        .store
        .list_changes(Log::Authority, After::Sequence(0), 10);
    let Ok(Changes::Listed(own)) = own.await else {
        panic!("the log can be read")
    };
    let own: Vec<_> = own
        .iter()
        .map(|change| (change.actor.as_str(), change.kind.as_str()))
        .collect();
    assert_eq!(own, [("operator", "authority.initialized")]);
}

#[tokio::test]
async fn records_of_instance_keys_and_settings_name_them() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (authority, instance) = (&story.authority, owner.instance_id());
    let key = authority
        .create_instance_key(&owner, true)
        .await
        .unwrap()
        .info
        .id;
    let detail = json!({"key_id": key});
    let created = expected(owner.name(), "instance_key.created", key.as_str(), &detail);
    assert_eq!(story.last_record().await, created);
    authority
        .revoke_instance_key(&owner, key.as_str())
        .await
        .unwrap();
    let revoked = expected(owner.name(), "instance_key.revoked", key.as_str(), &detail);
    assert_eq!(story.last_record().await, revoked);
    story.clock.advance(MINUTE);
    for (settings, local_since) in [
        (json!({"max_jwt_ttl": 60}), json!(START)),
        (
            json!({"jwt_scopes_claim": false, "issuer": "https://x"}),
            Value::Null,
        ),
        (json!({"jwt_scopes_claim": true}), json!(START + 2 * MINUTE)),
    ] {
        story.set(&story.home, settings.clone()).await;
        let detail = json!({
            "instance_id": instance,
            "settings": settings,
            "local_since": local_since,
        });
        let updated = expected(owner.name(), "instance.updated", instance.as_str(), &detail);
        assert_eq!(story.last_record().await, updated);
    }
}

#[tokio::test]
async fn records_of_machines_and_scopes_name_both_machines_and_old_and_new_values() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (sender, receiver) = (story.sender.id, story.receiver.id);
    let detail = json!({
        "machine_id": sender,
        "name": "sender",
        "default_token_ttl": 3600,
        "scoped_machines": [receiver],
        "key_id": key_of(&story, sender).await,
    });
    let created = expected(owner.name(), "machine.created", sender.as_str(), &detail);
    assert_eq!(story.last_record().await, created);
    let update = MachineUpdate {
        name: Some("new".into()),
        ..MachineUpdate::default()
    };
    let authority = &story.authority;
    authority
        .update_machine(&owner, sender, update)
        .await
        .unwrap();
    let detail = json!({
        "machine_id": sender,
        "name": {"from": "sender", "to": "new"},
        "default_token_ttl": {"from": 3600, "to": 3600},
    });
    let updated = expected(owner.name(), "machine.updated", sender.as_str(), &detail);
    assert_eq!(story.last_record().await, updated);
    let detail = json!({"from_machine_id": receiver, "to_machine_id": sender});
    authority
        .create_scope(&owner, receiver, sender)
        .await
        .unwrap();
    let made = expected(owner.name(), "scope.created", receiver.as_str(), &detail);
    assert_eq!(story.last_record().await, made);
    authority
        .delete_scope(&owner, receiver, sender)
        .await
        .unwrap();
    let gone = expected(owner.name(), "scope.deleted", receiver.as_str(), &detail);
    assert_eq!(story.last_record().await, gone);
    authority.delete_machine(&owner, sender).await.unwrap();
    let detail = json!({"machine_id": sender, "name": "new"});
    let deleted = expected(owner.name(), "machine.deleted", sender.as_str(), &detail);
    assert_eq!(story.last_record().await, deleted);
}

#[tokio::test]
async fn records_of_machine_keys_name_the_key_that_was_shown_or_made() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (authority, sender) = (&story.authority, story.sender.id);
    let mut keys = Vec::new();
    for ttl in [0, 60] {
        let key = key_of(&story, sender).await;
        authority.reveal_machine_key(&owner, sender).await.unwrap();
        let detail = json!({"machine_id": sender, "key_id": key});
        let revealed = expected(
            owner.name(),
            "machine_key.revealed",
            sender.as_str(),
            &detail,
        );
        assert_eq!(story.last_record().await, revealed);
        keys.push(key);
        authority
            .rotate_machine_key(&owner, sender, ttl)
            .await
            .unwrap();
        let detail = json!({
            "machine_id": sender,
            "key_id": key_of(&story, sender).await,
            "older_expire_at": START + ttl * 1000,
        });
        let rotated = expected(
            owner.name(),
            "machine_key.rotated",
            sender.as_str(),
            &detail,
        );
        assert_eq!(story.last_record().await, rotated);
    }
    keys.push(key_of(&story, sender).await);
    keys.sort_by_key(Value::to_string);
    keys.dedup();
    assert_eq!(keys.len(), 3, "each key has an id of its own");
    assert!(
        keys.iter()
            .all(|key| key.as_str().unwrap().starts_with("key_"))
    );
}

#[tokio::test]
async fn the_record_of_a_revocation_names_the_token_its_machine_and_its_receivers() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let operator = story.operator_for(&story.home).await;
    let machine = story.actor(&story.sender.key).await;
    assert_eq!(machine.name(), story.sender.id.as_str());
    for actor in [&owner, &machine, &operator] {
        for (request, format) in [(opaque(), "opaque"), (jwt(), "jwt")] {
            for reason in [Some("leaked"), None] {
                let (_, id) = story.token(&story.sender, request.clone()).await;
                let revoke = story.authority.revoke(actor, id, reason.map(Into::into));
                let revoked = revoke.await.unwrap();
                let facts = story.facts(id, format, revoked.expiration);
                let detail = json!({"token": facts, "reason": reason});
                let expected = expected(actor.name(), "token.revoked", &id.to_string(), &detail);
                assert_eq!(story.last_record().await, expected);
            }
        }
        // An update that also revokes is a revocation.
        let (_, id) = story.token(&story.sender, opaque()).await;
        let update = story.authority.update_token(actor, id, revoke_it("why"));
        let facts = story.facts(id, "opaque", update.await.unwrap().expiration);
        let detail = json!({"token": facts, "reason": "why"});
        let expected = expected(actor.name(), "token.revoked", &id.to_string(), &detail);
        assert_eq!(story.last_record().await, expected);
    }
}

#[tokio::test]
async fn a_jwt_without_the_claim_of_the_authority_names_no_receivers() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let (_, before) = story.token(&story.sender, jwt()).await;
    story
        .set(&story.home, json!({"jwt_scopes_claim": false}))
        .await;
    let (_, without) = story.token(&story.sender, jwt()).await;
    let (_, opaque) = story.token(&story.sender, opaque()).await;
    story
        .set(&story.home, json!({"jwt_scopes_claim": true}))
        .await;
    // Another node may sign by the old settings for a moment.
    story.clock.advance(MINUTE - 1);
    let (_, soon) = story.token(&story.sender, jwt()).await;
    story.clock.advance(SECOND);
    let (_, after) = story.token(&story.sender, jwt()).await;
    for (id, names_receivers) in [
        (before, false),
        (without, false),
        (opaque, true),
        (soon, false),
        (after, true),
    ] {
        story.authority.revoke(&owner, id, None).await.unwrap();
        let record = story.last_record().await;
        let facts: TokenFacts = serde_json::from_value(record["detail"]["token"].clone()).unwrap();
        assert_eq!(
            (facts.token_id, facts.names_receivers),
            (id, names_receivers)
        );
    }
}

#[tokio::test]
async fn the_record_of_an_update_has_the_new_expiry() {
    let story = Story::new().await;
    let machine = story.actor(&story.sender.key).await;
    let (_, id) = story.token(&story.sender, opaque()).await;
    for (claims, seconds, millis) in [
        (Some(claims("{}")), None, HOUR),
        (None, Some(Some(60.0.into())), MINUTE),
    ] {
        let request = UpdateRequest {
            claims: claims.clone(),
            seconds_until_expiration: seconds,
            ..UpdateRequest::default()
        };
        story
            .authority
            .update_token(&machine, id, request)
            .await
            .unwrap();
        let facts = story.facts(id, "opaque", Some(Timestamp::from_millis(START + millis)));
        let detail = json!({"token": facts, "claims_replaced": claims.is_some()});
        let expected = expected(machine.name(), "token.updated", &id.to_string(), &detail);
        assert_eq!(story.last_record().await, expected);
    }
}

#[tokio::test]
async fn a_token_that_the_operator_issues_is_recorded_and_one_of_the_machine_is_not() {
    let story = Story::new().await;
    let machine = story.actor(&story.sender.key).await;
    let instance = machine.instance_id();
    let operator = story
        .authority
        .operator_as_machine(&story.operator, instance, story.sender.id)
        .await
        .unwrap();
    let before = story.log(&story.home).await.len();
    for request in [opaque(), jwt(), pooled(60)] {
        story.authority.issue(&machine, &request).await.unwrap();
    }
    assert_eq!(story.log(&story.home).await.len(), before);
    // The machine's own pooled token is handed to the operator.
    let reused = story.authority.issue(&operator, &pooled(60)).await.unwrap();
    assert!(reused.is_reused);
    let id = reused.body.id;
    let detail = json!({"token": story.facts(id, "opaque", reused.body.expiration)});
    let recorded = expected("operator", "token.issued", &id.to_string(), &detail);
    assert_eq!(story.last_record().await, recorded);
    for (request, format) in [
        (opaque(), "opaque"),
        (jwt(), "jwt"),
        (claiming("{}", pooled(60)), "opaque"),
    ] {
        let issued = story.authority.issue(&operator, &request).await.unwrap();
        let id = issued.body.id;
        let detail = json!({"token": story.facts(id, format, issued.body.expiration)});
        let expected = expected("operator", "token.issued", &id.to_string(), &detail);
        assert_eq!(story.last_record().await, expected);
    }
    assert_eq!(story.log(&story.home).await.len(), before + 4);
}

#[tokio::test]
async fn the_records_of_ended_tokens_have_the_cut_off() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let operator = story.operator_for(&story.home).await;
    let sender = story.sender.id;
    let instance = owner.instance_id();
    for _ in 0..5 {
        story.token(&story.sender, opaque()).await;
    }
    let before = story.log(&story.home).await.len();
    for actor in [&owner, &operator] as [&Actor; 2] {
        let issued_before = story
            .authority
            .end_tokens(actor, Some(sender))
            .await
            .unwrap();
        let detail = json!({"machine_id": sender, "issued_before": issued_before});
        let ended = expected(
            actor.name(),
            "machine.tokens_ended",
            sender.as_str(),
            &detail,
        );
        assert_eq!(story.last_record().await, ended);
        let issued_before = story.authority.end_tokens(actor, None).await.unwrap();
        let detail = json!({"instance_id": instance, "issued_before": issued_before});
        let ended = expected(
            actor.name(),
            "instance.tokens_ended",
            instance.as_str(),
            &detail,
        );
        assert_eq!(story.last_record().await, ended);
    }
    let after = story.log(&story.home).await.len();
    assert_eq!(after, before + 4, "one for each call, none for each token");
}

#[tokio::test]
async fn the_records_of_signing_keys_name_them_and_why_they_changed() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let first = owner.instance_id().first_signing_key();
    let last = async |count: usize| {
        let log = story.log(&story.home).await;
        log[log.len() - count..]
            .iter()
            .map(record)
            .collect::<Vec<_>>()
    };
    let authority = &story.authority;
    let second = authority
        .rotate_signing_key(&owner, true)
        .await
        .unwrap()
        .kid;
    authority.delete_signing_key(&owner, first).await.unwrap();
    let by = |actor, cause, old: &str, new: &str| {
        let activated = json!({"kid": new, "verify_only": old, "cause": cause});
        let deleted = json!({"kid": old, "cause": cause});
        [
            expected(actor, "signing_key.published", new, &json!({"kid": new})),
            expected(actor, "signing_key.activated", new, &activated),
            expected(actor, "signing_key.deleted", old, &deleted),
        ]
    };
    let requested = by(owner.name(), "request", first.as_str(), second.as_str());
    assert_eq!(last(3).await, requested);
    for millis in [90 * DAY - HOUR, HOUR, 2 * MINUTE] {
        story.clock.advance(millis);
        authority.maintain().await.unwrap();
    }
    let third = authority.signing_keys(&owner).await.unwrap()[0].kid;
    let scheduled = by("operator", "schedule", second.as_str(), third.as_str());
    assert_eq!(last(3).await, scheduled);
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_record() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let (token, id) = story.token(&story.sender, opaque()).await;
    authority.revoke(&owner, id, None).await.unwrap();
    let before = story.log(&story.home).await;
    authority.revoke(&owner, id, None).await.unwrap();
    let update = MachineUpdate::default();
    authority
        .update_machine(&owner, story.sender.id, update)
        .await
        .unwrap();
    let update = UpdateRequest::default();
    authority.update_token(&owner, id, update).await.unwrap();
    let (good, _) = story.token(&story.sender, jwt()).await;
    for token in [&token, &good] {
        let _ = story.verify(&story.receiver.key, token).await;
        let _ = authority.verify_presented(&story.receiver.key, token).await;
        let _ = authority.whoami(token).await;
    }
    authority.maintain().await.unwrap();
    assert_eq!(story.log(&story.home).await, before);
}
