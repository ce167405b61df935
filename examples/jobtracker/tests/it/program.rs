//! The executable, by the settings of `.env.example`.

use crate::support::program::Program;
use crate::support::{AUDIENCE, World, read};

fn start(world: &World, more: &[(&str, &str)]) -> Program {
    let mut variables = vec![
        ("CLERK_API_URL", world.authority_url()),
        ("CLERK_MACHINE_SECRET_KEY_JOBTRACKER", world.me.key.expose()),
        (
            "CLERK_M2M_MACHINE_ID_JOBTRACKER",
            world.me.machine.id.as_str(),
        ),
        (
            "CLERK_M2M_MACHINE_ID_JOB_APPLIER",
            world.job_applier.machine.id.as_str(),
        ),
        ("JOBTRACKER_LISTEN", "127.0.0.1:0"),
        ("JOBTRACKER_ISSUER", world.issuer.url()),
        ("JOBTRACKER_AUDIENCE", AUDIENCE),
    ];
    variables.extend(more);
    Program::start(env!("CARGO_BIN_EXE_jobtracker"), "api", &variables)
}

#[tokio::test]
async fn the_executable_serves_users_and_machines_and_ends_when_asked() {
    let world = World::start().await;
    // A variable that is empty was not filled in.
    let program = start(&world, &[("JOBTRACKER_AUTHORIZED_PARTY", "")]);
    let url = format!("{}/applications/app_1001", program.url);
    let ada = world.issuer.token("user_ada");
    let representer = world.token_of(&world.candidate_representer).await;
    for token in [&ada, &representer] {
        let (status, application) = read(world.http.get(&url).bearer_auth(token)).await;
        assert_eq!(status, 200, "{application}");
    }
    assert!(program.terminate().success());
}

#[tokio::test]
async fn the_executable_refuses_users_of_applications_that_are_not_named() {
    let world = World::start().await;
    let parties = "https://app.example.com,https://www.example.com";
    let program = start(&world, &[("JOBTRACKER_AUTHORIZED_PARTY", parties)]);
    let url = format!("{}/applications/app_1001", program.url);
    let ada = world.issuer.token("user_ada");
    let (status, error) = read(world.http.get(&url).bearer_auth(&ada)).await;
    assert_eq!(
        (status, &error["reason"]),
        (401, &"party_not_allowed".into())
    );
}
