//! What proves who sent a notification, and when: HMAC-SHA256 as the Standard Webhooks specification 1.0 has it, over
//! the id, the time of sending and the whole body.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How many secrets count at the same time, so that one can take the place of another.
const SECRETS: usize = 4;
/// The shortest secret, in bytes.
const SHORTEST: usize = 24;
/// How a secret in base64 begins.
const BASE64: &str = "whsec_";

/// Why notifications cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there.
    #[error(
        "{file}: {source}; mount the Secret that holds the notification secret, and name its file with --notify-secret-file"
    )]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It holds no secret.
    #[error(
        "{file}: found {found}, expected 1 to {SECRETS} lines with a secret of at least {SHORTEST} characters each, or whsec_ and base64"
    )]
    Content {
        /// The file.
        file: String,
        /// What is there.
        found: String,
    },
}

/// The secrets that count.
pub(super) struct Secrets(Vec<hmac::Key>);

impl Secrets {
    /// Reads the file.
    pub(super) fn read(file: &Path) -> Result<Self, SecretError> {
        let name = || file.display().to_string();
        let text =
            std::fs::read_to_string(file).map_err(|source| SecretError::Read { file: name(), source })?;
        Self::parse(&text).map_err(|found| SecretError::Content { file: name(), found })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() || lines.len() > SECRETS {
            return Err(format!("{} lines", lines.len()));
        }
        let read = |(at, line): (usize, &&str)| {
            let secret = match line.strip_prefix(BASE64) {
                Some(encoded) => STANDARD
                    .decode(encoded)
                    .map_err(|_| format!("line {} that is no base64", at + 1))?,
                None => line.as_bytes().to_vec(),
            };
            match secret.len() {
                short if short < SHORTEST => Err(format!("line {} of {short} bytes", at + 1)),
                _ => Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
            }
        };
        lines
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Secrets)
    }

    /// The value of the header `webhook-signature`: one signature for each secret.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let signature = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{seconds}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        let signatures: Vec<String> = self.0.iter().map(signature).collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = secrets.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_of_several_secrets_signs() {
        let secrets =
            Secrets::parse("the secret that is in use now\nthe secret that comes after it\n").unwrap();
        let both = secrets.sign("id", 1, b"body");
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert_ne!(parts[0], parts[1]);
        assert!(parts.iter().all(|part| part.starts_with("v1,")));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let five = "a secret that is long enough\n".repeat(5);
        for bad in ["", "\n \n", "short", "whsec_!!!", "whsec_c2hvcnQ=", five.as_str()] {
            assert!(Secrets::parse(bad).is_err(), "{bad:?}");
        }
    }
}
