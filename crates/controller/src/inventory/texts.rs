//! Texts that many pods share, kept once.

use std::collections::HashSet;
use std::sync::Arc;

/// The texts in use.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    kept: HashSet<Arc<str>>,
}

impl Texts {
    /// The one copy of this text.
    pub(crate) fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.kept.get(text) {
            return kept.clone();
        }
        let kept: Arc<str> = text.into();
        self.kept.insert(kept.clone());
        kept
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.kept.retain(|text| Arc::strong_count(text) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_kept_once_and_forgotten_when_unused() {
        let mut texts = Texts::default();
        let first = texts.keep("registry.example.com/shop/web:1");
        assert!(Arc::ptr_eq(
            &first,
            &texts.keep("registry.example.com/shop/web:1")
        ));
        texts.forget_unused();
        assert_eq!(texts.kept.len(), 1);
        drop(first);
        texts.forget_unused();
        assert!(texts.kept.is_empty());
    }
}
