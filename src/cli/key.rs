//! `evener key`: keys for clients.
use super::status::StatusFormat;
use super::terminal;
use crate::access::Digest;
use crate::config::{check_key_name, key_yaml};
use anyhow::anyhow;
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::process::ExitCode;

/// Tells whoever finds one what it is; secret scanners look for that.
const PREFIX: &str = "sk-evener-";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 43 letters of 62 are 256 bits.
const LETTERS: usize = 43;

/// Make keys for clients
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    pub verb: KeyVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    New(NewKeyArgs),
}

/// Make a key: print it once, and its entry for the file, which holds only its hash
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  evener key new mobile
  evener key new mobile --format json | jq -r .key

The key is nowhere else: give it to its client, and the entry to the file under `keys`. Once `keys` is there, every
request needs one: `authorization: Bearer KEY` (what OpenAI's clients send as `api_key`) or `x-api-key: KEY`.
To take a key back, remove its entry: it is refused from the next request on. To change one, add a second entry under
another name, let its client change over, and remove the first.

A key that exists already is hashed by: printf %s \"$KEY\" | sha256sum")]
pub struct NewKeyArgs {
    /// What logs call it; limits belong to it
    pub name: String,
    /// How it is written
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
}

pub fn key(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let KeyVerb::New(NewKeyArgs { name, format }) = &args.verb;
    check_key_name(name).map_err(|what| anyhow!("the name {what}"))?;
    let key = fresh(&SystemRandom::new())?;
    let hash = Digest::of(key.as_bytes());
    terminal::out(&match format {
        StatusFormat::Text => format!("{key}\n\n{}\n", key_yaml(name, hash).trim_end()),
        StatusFormat::Json => {
            format!("{:#}\n", json!({"name": name, "key": key, "hash": hash.to_string()}))
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Drawn by the operating system, each letter as likely as the others.
fn fresh(random: &dyn SecureRandom) -> anyhow::Result<String> {
    let mut key = PREFIX.to_owned();
    let mut bytes = [0; 64];
    while key.len() < PREFIX.len() + LETTERS {
        random.fill(&mut bytes).map_err(|_| anyhow!("the system gives no random numbers"))?;
        // 248 is the last multiple of 62: what is above would favor some letters.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let letters = even.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        key.extend(letters.take(PREFIX.len() + LETTERS - key.len()));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_new_and_of_the_letters_that_need_no_quotes() {
        let keys: Vec<String> = (0..50).map(|_| fresh(&SystemRandom::new()).unwrap()).collect();
        for key in &keys {
            let letters = key.strip_prefix(PREFIX).unwrap();
            assert_eq!(letters.len(), LETTERS);
            assert!(letters.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        }
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
