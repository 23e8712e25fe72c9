//! Items whose content somebody else keeps: what one says it is is held, and the rest is read again whenever a signer is
//! asked about it. Strangers can attach megabytes to each of very many images.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::item::{Content, Item, ItemKind};
use crate::key::Fingerprint;

/// Whoever keeps the bytes of an item. A closure that reads the item again is one.
pub trait Keeper: Send + Sync {
    /// The item, read again; None where its bytes are not kept any more.
    fn item(&self) -> Option<Item>;

    /// Whether its bytes are kept.
    fn is_at_hand(&self) -> bool {
        self.item().is_some()
    }
}

impl<Read: Fn() -> Option<Item> + Send + Sync> Keeper for Read {
    fn item(&self) -> Option<Item> {
        self()
    }
}

/// Longer texts by which an item says what it is are cut: no policy names a longer type.
const LONGEST_TEXT: usize = 1024;

/// What is held of an item instead of its content.
#[derive(Clone)]
pub(crate) struct Elsewhere {
    pub(crate) kind: ItemKind,
    pub(crate) key_hint: Option<Fingerprint>,
    keeper: Arc<dyn Keeper>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elsewhere").field(&self.kind).finish()
    }
}

impl Item {
    /// The same item without its content, which the keeper gives again.
    #[must_use]
    pub fn kept_elsewhere(&self, keeper: Arc<dyn Keeper>) -> Self {
        let elsewhere = Elsewhere {
            kind: self.kind().cut(),
            key_hint: self.key_hint(),
            keeper,
        };
        self.with_content(Content::Elsewhere(Box::new(elsewhere)))
    }

    /// The item with its content at hand, so that several signers are asked about one reading. Where its bytes are not
    /// kept any more, itself: then nobody can tell anything of it.
    #[must_use]
    pub fn opened(&self) -> Cow<'_, Self> {
        match self.content() {
            Content::Elsewhere(elsewhere) => match self.read_again(elsewhere) {
                Some(item) => Cow::Owned(item),
                None => Cow::Borrowed(self),
            },
            _ => Cow::Borrowed(self),
        }
    }

    /// Whether its content is held, or kept where it can be read again.
    #[must_use]
    pub fn is_at_hand(&self) -> bool {
        match self.content() {
            Content::Elsewhere(elsewhere) => elsewhere.keeper.is_at_hand(),
            _ => true,
        }
    }

    fn read_again(&self, elsewhere: &Elsewhere) -> Option<Self> {
        elsewhere.keeper.item().filter(|item| item.id() == self.id())
    }
}

impl ItemKind {
    /// The same kind, of which nothing that a stranger wrote is longer than a little.
    fn cut(self) -> Self {
        match self {
            Self::Attestation { predicate_type } => Self::Attestation {
                predicate_type: cut(predicate_type),
            },
            Self::Other { payload_type } => Self::Other {
                payload_type: cut(payload_type),
            },
            Self::UnreadablePayload { why } => Self::UnreadablePayload { why: cut(why) },
            Self::Malformed { why } => Self::Malformed { why: cut(why) },
            short @ (Self::ImageSignature | Self::SignedBlob | Self::NotRead { .. }) => short,
        }
    }
}

/// The beginning of a long text.
pub(crate) fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
