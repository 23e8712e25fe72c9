//! The flags about registries that the operator and `assay check` share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use registry::ClientOptions;

// No doc comment: it would take the place of the text of the command that holds these.
#[derive(Args, Debug)]
pub(crate) struct RegistryArguments {
    /// Speak plain http with this registry, as HOST or HOST:PORT (repeatable)
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// A docker config.json with registry credentials; only its `auths` are read
    #[arg(long, value_name = "FILE")]
    registry_config: Option<PathBuf>,
    /// Let credentials for this registry go to its token server on another host (repeatable)
    #[arg(long, value_name = "REGISTRY=HOST", value_parser = token_server)]
    token_server: Vec<(String, String)>,
}

impl RegistryArguments {
    /// Options of a registry client that calls itself `user_agent`.
    pub(crate) fn options(&self, user_agent: &str) -> ClientOptions {
        let mut token_servers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (registry, server) in &self.token_server {
            token_servers
                .entry(registry.clone())
                .or_default()
                .insert(server.clone());
        }
        ClientOptions {
            plain_http: self.insecure_registry.iter().cloned().collect(),
            docker_config: self.registry_config.clone(),
            token_servers,
            user_agent: user_agent.to_owned(),
            ..ClientOptions::default()
        }
    }
}

fn token_server(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((registry, server)) if !registry.is_empty() && !server.is_empty() => {
            Ok((registry.to_owned(), server.to_owned()))
        }
        _ => Err(format!(
            "{text:?} is not of the form REGISTRY=HOST; write for example registry.example.com=auth.example.com"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        registries: RegistryArguments,
    }

    fn parse(arguments: &[&str]) -> Result<ClientOptions, clap::Error> {
        let words = std::iter::once("assay").chain(arguments.iter().copied());
        Command::try_parse_from(words).map(|command| command.registries.options("test"))
    }

    #[test]
    fn a_token_server_is_allowed_for_the_registry_that_it_is_named_for_and_no_other() {
        let options = parse(&[
            "--token-server=a.example.com=auth.example.com",
            "--token-server=a.example.com=other.example.com:8443",
            "--token-server=b.example.com:5000=auth.example.com",
        ])
        .unwrap();
        let servers = |registry: &str| {
            let servers = options.token_servers.get(registry).into_iter().flatten();
            servers.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(
            servers("a.example.com"),
            ["auth.example.com", "other.example.com:8443"]
        );
        assert_eq!(servers("b.example.com:5000"), ["auth.example.com"]);
        assert_eq!(options.token_servers.len(), 2);
        assert!(parse(&[]).unwrap().token_servers.is_empty());
    }

    #[test]
    fn a_token_server_without_its_registry_is_refused() {
        for found in ["auth.example.com", "=auth.example.com", "a.example.com=", "="] {
            let refused = parse(&["--token-server", found]).err().unwrap().to_string();
            assert!(refused.contains("REGISTRY=HOST"), "{refused}");
        }
        let options = parse(&["--token-server", "a.example.com=https://auth.example.com"]).unwrap();
        assert!(registry::Client::new(options).is_err());
    }
}
