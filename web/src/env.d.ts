/// <reference types="vite/client" />

declare module "virtual:watch-worker" {
  /** Where the shared worker's script is. */
  const url: string;
  export default url;
}
