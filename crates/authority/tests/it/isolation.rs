//! Instances are sealed off (P5): every method is tried with the ids, keys and tokens of another instance. And machines are
//! kept from what belongs to the instance.

use countersign_authority::{
    Error, MachineOrder, MachineQuery, MachineUpdate, Page, SortBy, TokenFormats, UpdateRequest,
};

use crate::support::{Story, jwt, opaque, refusal_of};

/// All that the first instance has, to be compared.
async fn belongings(story: &Story) -> String {
    let owner = story.actor(&story.home).await;
    let page = Page {
        limit: 100,
        offset: 0,
    };
    let order = MachineOrder {
        by: SortBy::CreatedAt,
        is_descending: false,
    };
    let query = MachineQuery {
        text: None,
        order,
        page,
    };
    let authority = &story.authority;
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        authority.list_machines(&owner, query).await.unwrap(),
        authority
            .list_tokens(
                &owner,
                story.sender.id,
                (true, true),
                TokenFormats::All,
                page
            )
            .await
            .unwrap(),
        authority.instance_keys(&owner).await.unwrap(),
        authority.signing_keys(&owner).await.unwrap(),
        authority.list_changes(&owner, 0).await.unwrap(),
    )
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
    let (mine, yours) = (story.stranger.id, story.sender.id);
    let home = story.actor(&story.home).await;
    let owner = story.actor(&story.abroad).await;
    let stranger = story.actor(&story.stranger.key).await;
    let operator = countersign_authority::Authority::operator(owner.instance().clone());
    let page = Page {
        limit: 100,
        offset: 0,
    };

    for actor in [&owner, &operator] {
        let update = || MachineUpdate {
            name: Some("mine".to_owned()),
            default_token_ttl: None,
        };
        let signing_key = home.instance().id.first_signing_key();
        let refused = [
            ("machine", authority.machine(actor, yours).await.err()),
            (
                "update",
                authority.update_machine(actor, yours, update()).await.err(),
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
                "scope to",
                authority.create_scope(actor, mine, yours).await.err(),
            ),
            (
                "scope from",
                authority.create_scope(actor, yours, mine).await.err(),
            ),
            (
                "their scope",
                authority
                    .delete_scope(actor, yours, story.receiver.id)
                    .await
                    .err(),
            ),
            (
                "list",
                authority
                    .list_tokens(actor, yours, (true, true), TokenFormats::All, page)
                    .await
                    .err(),
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
                authority.operator_as_machine(&operator, yours).await.err(),
            ),
        ];
        for (what, error) in refused {
            assert!(
                matches!(error, Some(Error::NotFound { .. })),
                "{what}: {error:?}"
            );
        }
    }
    for actor in [&owner, &operator, &stranger] {
        for (token, id) in &tokens {
            let refused = refusal_of(authority.verify(actor, token).await).unwrap();
            assert_eq!(refused.0, countersign_authority::Refusal::Unknown);
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
    let order = MachineOrder {
        by: SortBy::Name,
        is_descending: false,
    };
    let query = MachineQuery {
        text: Some(yours.to_string()),
        order,
        page,
    };
    let (listed, total) = authority.list_machines(&owner, query).await.unwrap();
    assert!(listed.is_empty() && total == 0);
    assert_ne!(
        authority.jwks(home.instance().id),
        authority.jwks(owner.instance().id)
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
    let settings = serde_json::json!({
        "secret_reveal": false, "token_pooling": false, "jwt_scopes_claim": false,
        "rate_limit": {"requests": 1, "seconds": 60},
    });
    authority.rotate_signing_key(&owner, true).await.unwrap();
    authority
        .delete_signing_key(&owner, owner.instance().id.first_signing_key())
        .await
        .unwrap();
    authority
        .delete_machine(&owner, story.stranger.id)
        .await
        .unwrap();
    authority
        .update_instance_settings(&owner, &settings)
        .await
        .unwrap();
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
    let page = Page {
        limit: 100,
        offset: 0,
    };
    let order = MachineOrder {
        by: SortBy::Name,
        is_descending: false,
    };
    let request = countersign_authority::MachineRequest {
        name: "x".to_owned(),
        scoped_machines: vec![],
        default_token_ttl: 60,
    };
    let signing_key = actor.instance().id.first_signing_key();
    let settings = serde_json::json!({});
    let refused = [
        authority.create_machine(&actor, request).await.err(),
        authority
            .list_machines(
                &actor,
                MachineQuery {
                    text: None,
                    order,
                    page,
                },
            )
            .await
            .err(),
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
