//! Every act is in the log, in its own transaction, and the log shows when somebody touches it (P12).

use countersign_authority::{AuditReport, Error, MachineUpdate};
use countersign_protocol::change::{ChangeKind, Log};
use countersign_store::{After, Change, Changes, Store as _};
use serde_json::json;

use crate::support::faulty::Fault;
use crate::support::{Story, jwt, opaque, pooled, revoke_it};

/// Does every act that is logged, and some that are not.
async fn do_everything(story: &Story) {
    let authority = &story.authority;
    let owner = story.actor(&story.home).await;
    let (sender, receiver) = (story.sender.id, story.receiver.id);
    let update = MachineUpdate {
        name: Some("new".into()),
        ..MachineUpdate::default()
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
        .revoke(&owner, first, Some("why".into()))
        .await
        .unwrap();
    authority
        .update_token(&owner, second, revoke_it("why"))
        .await
        .unwrap();
    authority.revoke(&owner, third, None).await.unwrap();
    let key = authority.create_instance_key(&owner, true).await.unwrap();
    authority
        .revoke_instance_key(&owner, key.info.id.as_str())
        .await
        .unwrap();
    story.set(&story.home, json!({"max_jwt_ttl": 60})).await;
    let old = owner.instance_id().first_signing_key();
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
        is_complete: true,
    };
    assert_eq!(
        story.authority.verify_audit(&owner, None).await.unwrap(),
        whole
    );
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
    assert_eq!(
        story.authority.verify_audit(&owner, None).await.unwrap(),
        whole
    );
}

#[tokio::test]
async fn a_check_goes_on_where_the_last_one_ended() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let whole = story.authority.verify_audit(&owner, None).await.unwrap();
    for after in 1..=whole.verified {
        let after = i64::try_from(after).unwrap();
        let rest = story
            .authority
            .verify_audit(&owner, Some(after.into()))
            .await;
        assert_eq!(rest.unwrap(), whole);
    }
    // What goes on from a record is compared with that record.
    story.store.alter("list_changes", |changes| {
        if let Changes::Listed(changes) = changes {
            for change in changes.iter_mut().filter(|change| change.sequence == 1) {
                change.code = [0; 32];
            }
        }
    });
    let report = story
        .authority
        .verify_audit(&owner, Some(1.into()))
        .await
        .unwrap();
    assert_eq!((report.verified, report.first_broken), (1, Some(2)));
    story.store.heal();
    for after in [-1, i64::try_from(whole.verified).unwrap() + 1] {
        let refused = story
            .authority
            .verify_audit(&owner, Some(after.into()))
            .await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
}

/// Somebody changes the records of one instance; the other instance's records are at hand.
type Tampering = fn(&mut Vec<Change>, &[Change]);

#[tokio::test]
async fn whoever_touches_the_log_is_noticed() {
    let cases: [(&str, Tampering, u64); 10] = [
        ("actor", |home, _| home[2].actor = "somebody".to_owned(), 3),
        (
            "time",
            |home, _| home[1].at = home[1].at.plus_millis(1).unwrap(),
            2,
        ),
        (
            "kind",
            |home, _| home[1].kind = ChangeKind::MachineDeleted,
            2,
        ),
        ("subject", |home, _| home[1].subject.push('x'), 2),
        ("detail", |home, _| home[0].detail = "{}".to_owned(), 1),
        ("code", |home, _| home[1].code = [0; 32], 2),
        ("chain version", |home, _| home[1].chain_version = 2, 2),
        ("format", |home, _| home[1].version += 1, 2),
        ("a record is gone", |home, _| drop(home.remove(1)), 2),
        ("the first is gone", |home, _| drop(home.remove(0)), 1),
    ];
    let planted: Tampering = |home, abroad| home[1] = abroad[1].clone();
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let foreigner = story.actor(&story.abroad).await;
    let (home, abroad) = (owner.instance_id(), foreigner.instance_id());
    let log = Log::Instance(abroad);
    let theirs = story.store.list_changes(log, After::Sequence(0), 10).await;
    let Ok(Changes::Listed(theirs)) = theirs else {
        panic!("{theirs:?}")
    };
    let planted = ("a true record of another instance", planted, 2);
    for (what, tampering, first_broken) in cases.into_iter().chain([planted]) {
        let theirs = theirs.clone();
        story.store.alter("list_changes", move |changes| {
            let Changes::Listed(changes) = changes else {
                return;
            };
            // The first record of a log names the instance.
            if changes
                .first()
                .is_some_and(|first| first.subject == home.as_str())
            {
                tampering(changes, &theirs);
            }
        });
        let report = story.authority.verify_audit(&owner, None).await.unwrap();
        let expected = AuditReport {
            verified: first_broken - 1,
            first_broken: Some(first_broken),
            is_complete: true,
        };
        assert_eq!(report, expected, "{what}");
        let report = story
            .authority
            .verify_audit(&foreigner, None)
            .await
            .unwrap();
        assert_eq!(report.first_broken, None, "{what}");
        story.store.heal();
        let report = story.authority.verify_audit(&owner, None).await.unwrap();
        assert_eq!(report.first_broken, None, "{what}");
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
        Err(Error::Unavailable(_))
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

    // Where an operation cannot write its record, it does nothing: the store's tests show that. Nothing happens here either.
    for operation in ["revoke_token", "reveal_machine_key", "delete_machine"] {
        story.store.fail_all(operation, Fault::Before);
    }
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
    story.store.heal();
    authority.revoke(&owner, id, None).await.unwrap();
    assert!(story.verify(&story.receiver.key, &token).await.is_err());
    assert_eq!(story.logged(&story.home).await.len(), entries + 1);
}

#[tokio::test]
async fn a_machine_does_not_read_the_log() {
    let story = Story::new().await;
    let sender = story.actor(&story.sender.key).await;
    assert!(matches!(
        story.authority.list_changes(&sender, None).await,
        Err(Error::InstanceKeyInvalid)
    ));
    assert!(matches!(
        story.authority.verify_audit(&sender, None).await,
        Err(Error::InstanceKeyInvalid)
    ));
}
