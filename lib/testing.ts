export { describeSlotStore, type SlotStoreUnderTest, type TestRunner } from './testing/describe-slot-store.js'
