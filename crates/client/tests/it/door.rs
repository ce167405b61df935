//! A client at the operator's door of a real authority.

use countersign_client::{Client, Error, KeyKind, NewToken, SettingsChange, WhoAmI};

use crate::support::World;

fn refused(error: &Error) -> (u16, &str) {
    let refusal = error.refusal().expect("a refusal");
    (
        refusal.status().as_u16(),
        refusal.errors()[0].long_message.as_ref(),
    )
}

#[tokio::test]
async fn the_operator_needs_no_key() {
    let world = World::start().await;
    let receiver = world.machine("receiver", &[]).await.machine;
    let sender = world.machine("sender", &[receiver.id]).await.machine;
    let WhoAmI::Operator { name, .. } = world.operator.whoami().await.unwrap() else {
        panic!("the operator");
    };
    assert_eq!(name, "test");
    assert_eq!(world.operator.machine(sender.id).await.unwrap(), sender);

    let as_sender = world.operator.as_machine(sender.id);
    let issued = as_sender.create_token(&NewToken::new()).await.unwrap();
    let as_receiver = world.operator.as_machine(receiver.id);
    let verified = as_receiver.verify_token(issued.string.expose()).await;
    assert_eq!(verified.unwrap().subject, sender.id);
    let verified = world.operator.verify_token(issued.string.expose()).await;
    assert_eq!(verified.unwrap().id, issued.token.id);
    // A machine that a token is not for learns nothing about it, even if the operator acts as that machine.
    let refusal = as_sender.verify_token(issued.string.expose()).await;
    assert_eq!(refused(&refusal.unwrap_err()).0, 404);

    let change = SettingsChange::new().jwt_scopes_claim(false);
    world.operator.update_instance(&change).await.unwrap();
    let changes = world.admin.list_changes(0).await.unwrap();
    assert_eq!(changes.last().unwrap().actor, "operator");
}

#[tokio::test]
async fn the_operator_names_what_a_request_is_about() {
    let world = World::start().await;
    let machine = world.machine("machine", &[]).await.machine;
    let new = NewToken::new();
    let nobody = world.operator.create_token(&new).await.unwrap_err();
    assert_eq!(
        refused(&nobody),
        (
            400,
            "Only a machine can do this; name one by its id in the header countersign-machine"
        )
    );
    let as_machine = world.operator.as_machine(machine.id);
    let denied = as_machine.instance().await.unwrap_err();
    assert_eq!(refused(&denied).0, 403);

    let created = world.operator.create_instance("staging", KeyKind::Test);
    let created = created.await.unwrap();
    assert!(created.key.expose().starts_with("sk_test_"));
    let staging = created.instance.id;
    let names: Vec<_> = world.operator.list_instances().await.unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|instance| instance.name.as_str())
        .collect();
    assert_eq!(names, ["test", "staging"]);
    let unclear = world.operator.instance().await.unwrap_err();
    let (status, text) = refused(&unclear);
    assert_eq!(status, 400);
    assert!(text.contains(&format!("{staging} (staging)")), "{text}");
    let there = world.operator.for_instance(staging);
    assert_eq!(there.instance().await.unwrap().id, staging);
    assert_eq!(there.whoami().await.unwrap().name(), "staging");
    // A machine of another instance is not found.
    let lost = there.as_machine(machine.id).create_token(&new).await;
    let lost = lost.unwrap_err();
    let expected = format!("Resource not found: no machine {}", machine.id);
    assert_eq!(refused(&lost), (400, expected.as_str()));
}

#[tokio::test]
async fn an_instance_key_does_not_open_what_is_the_operators() {
    let world = World::start().await;
    let list = world.admin.list_instances().await.unwrap_err();
    let create = world.admin.create_instance("mine", KeyKind::Live).await;
    for error in [list, create.unwrap_err()] {
        let (status, text) = refused(&error);
        assert_eq!(status, 403);
        assert!(text.contains("with --data"), "{text}");
    }
    let nobody = Client::new(&world.url, "sk_test_nobody").unwrap();
    let refusal = nobody.list_instances().await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code(), "clerk_key_invalid");
    // What only the operator may name is ignored for a key.
    let machine = world.machine("machine", &[]).await.machine;
    let as_machine = world.admin.as_machine(machine.id);
    let refusal = as_machine.create_token(&NewToken::new()).await;
    assert_eq!(refused(&refusal.unwrap_err()).0, 401);
}

#[tokio::test]
async fn a_door_that_is_not_open_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operator.sock");
    let client = Client::at_door(&path).build().unwrap();
    let error = client.list_instances().await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { address, .. } if *address == path.display().to_string()),
        "{error}"
    );
}
