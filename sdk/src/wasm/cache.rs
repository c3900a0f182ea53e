//! [`Cache`] over Spin's key-value store `default`.

use crate::cache::Cache;
use spin_sdk::key_value::Store;

impl super::Component {
    /// The store, asked for once in a call.
    async fn store(&self) -> Option<&Store> {
        if self.store.get().is_none() {
            let opened = Store::open_default().await.ok();
            return self.store.get_or_init(|| opened).as_ref();
        }
        self.store.get()?.as_ref()
    }
}

impl Cache for super::Component {
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.store().await?.get(key).await.ok()?
    }

    async fn set(&self, key: &str, value: Vec<u8>) {
        if let Some(store) = self.store().await {
            // What is not kept is read again.
            let _ = store.set(key, value).await;
        }
    }
}
