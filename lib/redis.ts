export { RedisStore } from './limit/redis-store.js'
export type { RedisStoreOptions, SendCommand, SendCommandCluster } from './limit/redis-store-options.js'
