export { RedisStore } from './redis/redis-store.js'
export type { RedisStoreOptions, SendCommand, SendCommandCluster } from './redis/redis-store-options.js'
