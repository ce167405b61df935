//! `countersign dev`: the five-minute start. What is missing is made; a second start finds it again.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_authority::{Authority, Error, Operator};
use countersign_protocol::secret::Secret;

use crate::admin::output::print_or_go_on;
use crate::exit::Failure;
use crate::folder::{init, open, publishable_key, refuse_loose_mode, write_private};
use crate::invocation::{program, quoted};
use crate::serve::{Preparation, authority_options, serve};
use crate::settings::Settings;

/// Where `dev` keeps its data unless told otherwise.
const DEFAULT_FOLDER: &str = ".countersign";
/// The keys of the first start, for the next ones and for other programs.
const ENV_FILE: &str = "dev.env";

/// Serves, and makes an authority first where there is none.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let prepared = Preparation::new(&settings)?;
    let is_local = prepared.is_loopback();
    let folder = settings
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER));
    let env_file = folder.join(ENV_FILE);
    let options = authority_options(&settings, &prepared);
    let master_key_file = settings.master_key_file.as_deref();
    let (authority, operator, key, state) = match init(
        &folder,
        master_key_file,
        options.clone(),
        false,
    )
    .await?
    {
        Some((authority, operator, created)) => (
            authority,
            operator,
            Secret::new(created.key.expose().to_owned()),
            "Countersign is running, with a new authority.",
        ),
        None => {
            let (authority, operator) =
                open(&folder, master_key_file, settings.token_index_mib, options).await?;
            // Without a key the first start was interrupted, or `init` made the authority: one of its own does no harm.
            let (key, state) = match read_key(&env_file)? {
                Some(key) => (key, "Countersign is running again."),
                None => (
                    new_key(&authority, &operator).await?,
                    "Countersign is running again, with a new secret key; those from before go on working.",
                ),
            };
            (authority, operator, key, state)
        }
    };
    serve(&folder, (authority, operator), &settings, prepared, is_local, |url| {
        let publishable_key = publishable_key(url, false);
        // Written at each start, because the address may be another one.
        let text = format!(
            "# Made by `countersign dev` for programs on this machine.\nCLERK_API_URL={url}\nCLERK_SECRET_KEY={}\n\
             CLERK_PUBLISHABLE_KEY={publishable_key}\n",
            key.expose()
        );
        write_private(&env_file, text.as_bytes())?;
        greet(state, url, key.expose(), &publishable_key, &env_file)
    })
    .await
}

async fn new_key(authority: &Authority, operator: &Operator) -> Result<Secret, Failure> {
    let instances = authority.instances(operator).await?;
    let first = instances.first().ok_or(Error::NotInitialized)?;
    let actor = authority.operator_for(operator, first.id).await?;
    let created = authority.create_instance_key(&actor, false).await?;
    Ok(Secret::new(created.key.expose().to_owned()))
}

/// The key that an earlier start wrote.
fn read_key(env_file: &Path) -> Result<Option<Secret>, Failure> {
    refuse_loose_mode(env_file)?;
    let text = Secret::new(fs::read_to_string(env_file).unwrap_or_default());
    let key = text
        .expose()
        .lines()
        .find_map(|line| line.strip_prefix("CLERK_SECRET_KEY="));
    Ok(key.map(|key| Secret::new(key.to_owned())))
}

/// Tells a newcomer what to do next. Standard output is for this; the log goes to standard error.
fn greet(
    state: &str,
    url: &str,
    key: &str,
    publishable_key: &str,
    env_file: &Path,
) -> Result<(), Failure> {
    print_or_go_on(format!(
        "\n\x1b[1m{state}\x1b[0m\n\n  \
         API              {url}\n  \
         Try it out       {url}/swagger\n  \
         Secret key       {key}\n  \
         Publishable key  {publishable_key}\n  \
         Keys in a file   {}\n\n\
         Make a first machine:\n\n  \
         curl -s {url}/v1/machines \\\n    -H 'Authorization: Bearer {key}' \\\n    -H 'Content-Type: application/json' \\\n    \
         -d '{{\"name\":\"my first machine\"}}'\n\n\
         See it from another terminal:\n\n  \
         {} machine list --env-file {}\n\n\
         Stop with Ctrl-C; the next start finds everything again.\n",
        env_file.display(),
        program(),
        quoted(env_file),
    ))
}
