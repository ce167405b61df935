//! Instances are sealed off (P5): every method is tried with the ids, keys and tokens of another instance. And machines are
//! kept from what belongs to the instance.

use countersign_authority::{
    Actor, Error, ListMachines, MachineRequest, MachineUpdate, Refusal, UpdateRequest,
};
use countersign_protocol::settings::SettingsUpdate;

use crate::support::{Story, all_of, jwt, opaque, refusal_of, settings_update};

/// Up to 100 machines, oldest first.
fn all_machines() -> ListMachines {
    ListMachines {
        order_by: Some("+created_at".to_owned()),
        limit: Some(100.into()),
        ..ListMachines::default()
    }
}

/// Everything that the first instance has, to be compared.
async fn belongings(story: &Story) -> String {
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let machines = authority.list_machines(&owner, all_machines()).await;
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        machines.unwrap().into_body(),
        story.all_tokens(&owner, story.sender.id).await,
        authority.instance(&owner).await.unwrap(),
        authority.instance_keys(&owner).await.unwrap(),
        authority.signing_keys(&owner).await.unwrap(),
        authority.list_changes(&owner, None).await.unwrap(),
    )
}

/// The refusals of everything that names something of the first instance, and what was tried.
async fn intrusions(story: &Story, actor: &Actor) -> Vec<(&'static str, Option<Error>)> {
    let authority = &story.authority;
    let (mine, yours) = (story.stranger.id, story.sender.id);
    let home = story.actor(&story.home).await;
    let update = MachineUpdate {
        name: Some("mine".into()),
        ..MachineUpdate::default()
    };
    let signing_key = home.instance_id().first_signing_key();
    let receiver = story.receiver.id;
    vec![
        ("machine", authority.machine(actor, yours).await.err()),
        (
            "update",
            authority.update_machine(actor, yours, update).await.err(),
        ),
        (
            "empty update",
            authority
                .update_machine(actor, yours, MachineUpdate::default())
                .await
                .err(),
        ),
        ("delete", authority.delete_machine(actor, yours).await.err()),
        (
            "reveal",
            authority.reveal_machine_key(actor, yours).await.err(),
        ),
        (
            "rotate",
            authority.rotate_machine_key(actor, yours, 0).await.err(),
        ),
        (
            "end tokens",
            authority.end_tokens(actor, Some(yours)).await.err(),
        ),
        (
            "scope to",
            authority.create_scope(actor, mine, yours).await.err(),
        ),
        (
            "scope from",
            authority.create_scope(actor, yours, mine).await.err(),
        ),
        (
            "their scope",
            authority.delete_scope(actor, yours, receiver).await.err(),
        ),
        (
            "list",
            authority.list_tokens(actor, all_of(yours)).await.err(),
        ),
        (
            "instance key",
            authority
                .revoke_instance_key(actor, home.name())
                .await
                .err(),
        ),
        (
            "signing key",
            authority.delete_signing_key(actor, signing_key).await.err(),
        ),
        (
            "act as",
            authority
                .operator_as_machine(&story.operator, actor.instance_id(), yours)
                .await
                .err(),
        ),
    ]
}

#[tokio::test]
async fn nothing_of_another_instance_can_be_reached() {
    let story = Story::new().await;
    let mut tokens = Vec::new();
    for request in [opaque(), jwt()] {
        tokens.push(story.token(&story.sender, request).await);
    }
    let before = belongings(&story).await;
    let authority = &story.authority;
    let home = story.actor(&story.home).await;
    let owner = story.actor(&story.abroad).await;
    let stranger = story.actor(&story.stranger.key).await;
    let operator = story.operator_for(&story.abroad).await;
    for actor in [&owner, &operator] {
        for (what, error) in intrusions(&story, actor).await {
            assert!(
                matches!(error, Some(Error::NotFound { .. })),
                "{what}: {error:?}"
            );
        }
    }
    for actor in [&owner, &operator, &stranger] {
        for (token, id) in &tokens {
            let refused = refusal_of(authority.verify(actor, token).await).unwrap();
            assert_eq!(refused.0, Refusal::Unknown);
            let refused = [
                authority.revoke(actor, *id, None).await.err(),
                authority
                    .update_token(actor, *id, UpdateRequest::default())
                    .await
                    .err(),
            ];
            assert!(
                refused
                    .iter()
                    .all(|error| matches!(error, Some(Error::NotFound { .. }))),
                "{refused:?}"
            );
        }
    }
    let theirs = ListMachines {
        query: Some(story.sender.id.to_string()),
        ..all_machines()
    };
    let listed = authority.list_machines(&owner, theirs).await.unwrap();
    assert!(listed.is_empty() && listed.total_count() == 0);
    assert_ne!(
        authority.jwks(&home).unwrap(),
        authority.jwks(&owner).unwrap()
    );
    assert_eq!(belongings(&story).await, before);
}

#[tokio::test]
async fn what_one_instance_does_to_itself_leaves_the_other_alone() {
    let story = Story::new().await;
    let (token, _) = story.token(&story.sender, opaque()).await;
    let before = belongings(&story).await;
    let owner = story.actor(&story.abroad).await;
    let authority = &story.authority;
    let settings = settings_update(&serde_json::json!({
        "secret_reveal": false, "token_pooling": false, "jwt_scopes_claim": false,
        "rate_limit": {"requests": 1, "seconds": 60},
    }));
    authority.rotate_signing_key(&owner, true).await.unwrap();
    authority
        .delete_signing_key(&owner, owner.instance_id().first_signing_key())
        .await
        .unwrap();
    authority
        .delete_machine(&owner, story.stranger.id)
        .await
        .unwrap();
    authority
        .update_instance_settings(&owner, &settings.unwrap())
        .await
        .unwrap();
    authority.end_tokens(&owner, None).await.unwrap();
    assert_eq!(belongings(&story).await, before);
    for _ in 0..3 {
        assert!(story.verify(&story.receiver.key, &token).await.is_ok());
    }
    let home = story.actor(&story.home).await;
    assert!(
        authority
            .reveal_machine_key(&home, story.sender.id)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_machine_may_not_do_what_its_instance_may() {
    let story = Story::new().await;
    let before = belongings(&story).await;
    let actor = story.actor(&story.sender.key).await;
    let authority = &story.authority;
    let (sender, receiver) = (story.sender.id, story.receiver.id);
    let request = MachineRequest {
        name: "x".into(),
        ..MachineRequest::default()
    };
    let signing_key = actor.instance_id().first_signing_key();
    let settings = SettingsUpdate::default();
    let refused = [
        authority.create_machine(&actor, request).await.err(),
        authority.list_machines(&actor, all_machines()).await.err(),
        authority.machine(&actor, sender).await.err(),
        authority
            .update_machine(&actor, sender, MachineUpdate::default())
            .await
            .err(),
        authority.delete_machine(&actor, sender).await.err(),
        authority.reveal_machine_key(&actor, sender).await.err(),
        authority.rotate_machine_key(&actor, sender, 0).await.err(),
        authority.create_scope(&actor, receiver, sender).await.err(),
        authority.delete_scope(&actor, sender, receiver).await.err(),
        authority
            .update_instance_settings(&actor, &settings)
            .await
            .err(),
        authority.instance(&actor).await.err(),
        authority.end_tokens(&actor, Some(sender)).await.err(),
        authority.end_tokens(&actor, None).await.err(),
        authority.create_instance_key(&actor, true).await.err(),
        authority.instance_keys(&actor).await.err(),
        authority.revoke_instance_key(&actor, "key_x").await.err(),
        authority.signing_keys(&actor).await.err(),
        authority.rotate_signing_key(&actor, true).await.err(),
        authority
            .delete_signing_key(&actor, signing_key)
            .await
            .err(),
    ];
    for (place, error) in refused.into_iter().enumerate() {
        assert!(
            matches!(error, Some(Error::InstanceKeyInvalid)),
            "{place}: {error:?}"
        );
    }
    assert_eq!(belongings(&story).await, before);
}
