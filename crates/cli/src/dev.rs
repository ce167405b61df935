//! `countersign dev`: the five-minute start. What is missing is made; a second start finds it again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::folder::{init, open, publishable_key, refuse_loose_mode, write_private};
use crate::serve::{authority_options, serve};
use crate::settings::Settings;

/// Where `dev` keeps its data unless told otherwise.
const DEFAULT_FOLDER: &str = ".countersign";
/// The keys of the first start, for the next ones and for other programs.
const ENV_FILE: &str = "dev.env";

/// Serves, and makes an authority first where there is none.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let folder = settings.data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER));
    let env_file = folder.join(ENV_FILE);
    let options = authority_options(&settings);
    let is_new = !folder.join("countersign.db").exists();
    let authority = if is_new {
        let public_url = options.public_url.clone();
        let (authority, created) = init(&folder, options, false).await?;
        write_env(&env_file, &public_url, created.key.expose())?;
        authority
    } else {
        open(&folder, settings.master_key_file.as_deref(), settings.token_index_mib, options).await?
    };
    serve(authority, &settings, |address| {
        greet(address, &env_file, is_new);
        Ok(())
    })
    .await
}

fn write_env(path: &Path, public_url: &str, secret_key: &str) -> Result<(), Failure> {
    let publishable_key = publishable_key(public_url, false);
    let text = format!(
        "# Made by `countersign dev` for programs on this machine.\nCLERK_API_URL={public_url}\nCLERK_SECRET_KEY={secret_key}\n\
         CLERK_PUBLISHABLE_KEY={publishable_key}\n"
    );
    write_private(path, text.as_bytes())
}

/// Tells a newcomer what to do next. Standard output is for this; the log goes to standard error.
fn greet(address: SocketAddr, env_file: &Path, is_new: bool) {
    let _ = refuse_loose_mode(env_file);
    let env = fs::read_to_string(env_file).unwrap_or_default();
    let key = env.lines().find_map(|line| line.strip_prefix("CLERK_SECRET_KEY=")).unwrap_or("$CLERK_SECRET_KEY");
    let publishable = env.lines().find_map(|line| line.strip_prefix("CLERK_PUBLISHABLE_KEY=")).unwrap_or_default();
    let state = if is_new { "Countersign is running, with a new authority." } else { "Countersign is running again." };
    anstream::println!(
        "\n\x1b[1m{state}\x1b[0m\n\n  \
         API              http://{address}\n  \
         Try it out       http://{address}/swagger\n  \
         Secret key       {key}\n  \
         Publishable key  {publishable}\n  \
         Keys in a file   {}\n\n\
         Make a first machine:\n\n  \
         curl -s http://{address}/v1/machines \\\n    -H 'Authorization: Bearer {key}' \\\n    -H 'Content-Type: application/json' \\\n    \
         -d '{{\"name\":\"my first machine\"}}'\n\n\
         Stop with Ctrl-C; the next start finds everything again.\n",
        env_file.display(),
    );
}
