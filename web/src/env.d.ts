/// <reference types="vite/client" />

declare module "virtual:watch-worker" {
  /** Where the shared worker's script is. */
  const url: string;
  export default url;
}

declare module "virtual:flame-worker" {
  /** Where the script of the worker is that works on call trees. */
  const url: string;
  export default url;
}
