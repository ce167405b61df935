//! Every act is in the log, in its own transaction, and the log shows when somebody touches it (P12).

use countersign_authority::{AuditReport, Error, MachineUpdate};
use rusqlite::Connection;
use serde_json::json;

use crate::support::faulty::Fault;
use crate::support::{Story, jwt, opaque, pooled, revoke_it};

/// Does every act that is logged, and some that are not.
async fn do_everything(story: &Story) {
    let authority = &story.authority;
    let owner = story.actor(&story.home).await;
    let (sender, receiver) = (story.sender.id, story.receiver.id);
    let update = MachineUpdate {
        name: Some("new".to_owned()),
        default_token_ttl: None,
    };
    authority
        .update_machine(&owner, sender, update)
        .await
        .unwrap();
    authority
        .create_scope(&owner, receiver, sender)
        .await
        .unwrap();
    authority
        .delete_scope(&owner, receiver, sender)
        .await
        .unwrap();
    authority.reveal_machine_key(&owner, sender).await.unwrap();
    let (_, first) = story.token(&story.sender, opaque()).await;
    let (token, second) = story.token(&story.sender, pooled(0)).await;
    let (_, third) = story.token(&story.sender, jwt()).await;
    story.verify(&story.receiver.key, &token).await.unwrap();
    authority
        .rotate_machine_key(&owner, sender, 60)
        .await
        .unwrap();
    authority
        .revoke(&owner, first, Some("why".to_owned()))
        .await
        .unwrap();
    authority
        .update_token(&owner, second, revoke_it("why"))
        .await
        .unwrap();
    authority.revoke(&owner, third, None).await.unwrap();
    let key = authority.create_instance_key(&owner, true).await.unwrap();
    authority
        .revoke_instance_key(&owner, &key.info.id)
        .await
        .unwrap();
    story.set(&story.home, json!({"max_jwt_ttl": 60})).await;
    let old = owner.instance().id.first_signing_key();
    authority.rotate_signing_key(&owner, true).await.unwrap();
    authority.delete_signing_key(&owner, old).await.unwrap();
    authority.delete_machine(&owner, receiver).await.unwrap();
}

#[tokio::test]
async fn every_act_has_one_entry_and_the_chain_is_whole() {
    let story = Story::new().await;
    do_everything(&story).await;
    assert_eq!(
        story.logged(&story.home).await,
        [
            "instance.created",
            "machine.created",
            "machine.created",
            "machine.updated",
            "scope.created",
            "scope.deleted",
            "machine_key.revealed",
            "machine_key.rotated",
            "token.revoked",
            "token.revoked",
            "token.revoked",
            "instance_key.created",
            "instance_key.revoked",
            "instance.updated",
            "signing_key.published",
            "signing_key.activated",
            "signing_key.deleted",
            "machine.deleted",
        ]
    );
    let owner = story.actor(&story.home).await;
    let whole = AuditReport {
        verified: 18,
        first_broken: None,
    };
    assert_eq!(story.authority.verify_audit(&owner).await.unwrap(), whole);
    // No secret is in it.
    let log = format!("{:?}", story.log(&story.home).await);
    for secret in ["ak_", "sk_test_", "sk_live_", "eyJ"] {
        assert!(!log.contains(secret), "{secret}");
    }
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    let owner = story.actor(&story.home).await;
    assert_eq!(story.authority.verify_audit(&owner).await.unwrap(), whole);
}

#[tokio::test]
async fn whoever_touches_the_log_is_noticed() {
    for (sql, first_broken) in [
        (
            "UPDATE changes SET actor = 'somebody' WHERE instance = 1 AND sequence = 3",
            3,
        ),
        (
            "UPDATE changes SET at = at + 1 WHERE instance = 1 AND sequence = 2",
            2,
        ),
        (
            "UPDATE changes SET kind = 'machine.deleted' WHERE instance = 1 AND sequence = 2",
            2,
        ),
        (
            "UPDATE changes SET subject = subject || 'x' WHERE instance = 1 AND sequence = 2",
            2,
        ),
        (
            "UPDATE changes SET detail = '{}' WHERE instance = 1 AND sequence = 1",
            1,
        ),
        (
            "UPDATE changes SET code = zeroblob(32) WHERE instance = 1 AND sequence = 2",
            2,
        ),
        (
            "UPDATE changes SET chain_version = 2 WHERE instance = 1 AND sequence = 2",
            2,
        ),
        ("DELETE FROM changes WHERE instance = 1 AND sequence = 2", 2),
        ("DELETE FROM changes WHERE instance = 1 AND sequence = 1", 1),
        // A true entry of another instance in the place of one.
        (
            "UPDATE changes SET (actor, kind, subject, detail, code, at) = \
            (SELECT actor, kind, subject, detail, code, at FROM changes WHERE instance = 2 AND sequence = 2) \
          WHERE instance = 1 AND sequence = 2",
            2,
        ),
    ] {
        let story = Story::new().await;
        let changed = Connection::open(story.database())
            .unwrap()
            .execute(sql, [])
            .unwrap();
        assert_eq!(changed, 1, "{sql}");
        let owner = story.actor(&story.home).await;
        let report = story.authority.verify_audit(&owner).await.unwrap();
        assert_eq!(report.first_broken, Some(first_broken), "{sql}");
        let abroad = story.actor(&story.abroad).await;
        assert_eq!(
            story
                .authority
                .verify_audit(&abroad)
                .await
                .unwrap()
                .first_broken,
            None
        );
    }
}

#[tokio::test]
async fn an_act_that_failed_left_no_entry_and_one_without_an_entry_did_not_happen() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let entries = story.logged(&story.home).await.len();
    let (token, id) = story.token(&story.sender, opaque()).await;

    story.store.fail_all("revoke_token", Fault::Before);
    assert!(matches!(
        authority.revoke(&owner, id, None).await,
        Err(Error::Store(_))
    ));
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    assert_eq!(story.logged(&story.home).await.len(), entries);

    // Refusals leave nothing either.
    let unknown = countersign_protocol::ids::TokenId::from_parts(id.locator(), 0);
    story.store.heal();
    assert!(authority.revoke(&owner, unknown, None).await.is_err());
    assert!(
        authority
            .create_scope(&owner, story.sender.id, story.receiver.id)
            .await
            .is_err()
    );
    assert!(
        authority
            .delete_scope(&owner, story.receiver.id, story.sender.id)
            .await
            .is_err()
    );
    assert!(
        authority
            .delete_machine(&owner, story.stranger.id)
            .await
            .is_err()
    );
    assert!(
        authority
            .revoke_instance_key(&owner, owner.name())
            .await
            .is_err()
    );
    assert_eq!(story.logged(&story.home).await.len(), entries);

    // Where the log cannot be written, the act does not happen.
    let database = Connection::open(story.database()).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER no_log BEFORE INSERT ON changes BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    assert!(authority.revoke(&owner, id, None).await.is_err());
    assert!(
        authority
            .reveal_machine_key(&owner, story.sender.id)
            .await
            .is_err()
    );
    assert!(
        authority
            .delete_machine(&owner, story.sender.id)
            .await
            .is_err()
    );
    assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    database.execute_batch("DROP TRIGGER no_log").unwrap();
    authority.revoke(&owner, id, None).await.unwrap();
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
    assert_eq!(story.logged(&story.home).await.len(), entries + 1);
}

#[tokio::test]
async fn a_machine_does_not_read_the_log() {
    let story = Story::new().await;
    let sender = story.actor(&story.sender.key).await;
    assert!(matches!(
        story.authority.list_changes(&sender, 0).await,
        Err(Error::InstanceKeyInvalid)
    ));
    assert!(matches!(
        story.authority.verify_audit(&sender).await,
        Err(Error::InstanceKeyInvalid)
    ));
}
