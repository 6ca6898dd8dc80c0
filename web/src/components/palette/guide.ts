// The guide's pages, as ways of the palette.
import type { Router } from "vue-router";
import type { Way } from "./entries";

export const guideWays = (_router: Router): Way[] => [];
